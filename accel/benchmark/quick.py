"""The one-minute comparison behind ``accel bench``: ceilings, a pass, a fit, transfers, sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accel
from accel.backends import get_backend
from accel.benchmark import rows
from accel.benchmark.cases import FITS
from accel.benchmark.ceilings import CEILINGS, ONLY_DEVICES
from accel.benchmark.fit_contenders import FIT_CONTENDERS
from accel.benchmark.needs import Absent
from accel.benchmark.pass_cases import PassCase
from accel.benchmark.pass_contenders import PASSES
from accel.benchmark.timer import first_call, samples

BUDGET_S = 1.0
COLUMNS = (10, 100, 784)
ROWS = (100, 1_000, 10_000, 100_000)
SIZES = tuple(PassCase(n, d) for d in COLUMNS for n in ROWS)
REFERENCES = ("two-pass NumPy", "CuPy, two products")  # besides accel's own backends
FIT = FITS[1]
FIT_REFERENCES = ("scikit-learn lbfgs",)


def measure(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure every usable backend and the references.

    Parameters
    ----------
    say : callable
        Takes a line for each thing about to be measured.

    Returns
    -------
    list of dict
        Rows, see `accel.benchmark.rows`.
    """
    usable = [report.name for report in accel.list_backends() if report.usable]
    own = tuple(f"accel {name}" for name in usable)
    found: list[dict[str, Any]] = []
    for name in usable:
        backend = get_backend(name)
        for ceiling, (prepare, _, _) in CEILINGS.items():
            if name == "numpy" and ceiling in ONLY_DEVICES:
                continue
            say(f"{ceiling}, {name}")
            with backend.context():
                found.append(rows.ceiling_row(ceiling, name, samples(prepare(backend), BUDGET_S)))
    for case in SIZES:
        for contender in (*own, *REFERENCES):
            say(f"pass {case}, {contender}")
            try:
                call = PASSES[contender](case)
            except Absent:
                continue
            result, cold_s = first_call(call)
            times = samples(call, BUDGET_S / len(COLUMNS) / 2)
            found.append(rows.pass_row(case, contender, result, cold_s, times))
    for contender in (*own, *FIT_REFERENCES):
        say(f"fit {FIT}, {contender}")
        fit = FIT_CONTENDERS[contender](FIT)
        model, cold_s = first_call(fit)
        found.append(rows.fit_row(FIT, contender, model, cold_s, samples(fit, BUDGET_S)))
    return found


def cells(row: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """A row as the texts of a table: what, who, time, rate, check.

    Parameters
    ----------
    row : dict
        Of `measure`.

    Returns
    -------
    tuple of str
        Five texts.
    """
    time = f"{1e3 * row['median_s']:.3g} ms"
    if row["kind"] == "ceiling":
        return row["case"], row["contender"], time, f"{row['rate']:.1f} {row['unit']}", ""
    rate = f"{row['gigabytes_per_s']:.1f} GB/s" if "gigabytes_per_s" in row else ""
    check = f"error {row['error']:.0e}" if "error" in row else f"gap {row['gap']:.0e}"
    return row["case"], row["contender"], time, rate, check if row["valid"] else f"INVALID {check}"


def winning_size(found: list[dict[str, Any]]) -> str:
    """From how many rows on a GPU's pass is faster than the CPU's, for each number of columns.

    Parameters
    ----------
    found : list of dict
        Rows of `measure`.

    Returns
    -------
    str
        One sentence for each GPU, the result fetched.
    """
    times = {
        (row["case"], row["contender"]): row["median_s"] for row in found if row["kind"] == "pass"
    }
    devices = {name for _, name in times if name.startswith("accel ")} - {"accel numpy"}
    if not devices:
        return "No GPU is usable here, so there is no size at which one wins."
    return " ".join(
        f"{device} is faster than accel numpy from {_wins(times, device)} on."
        for device in sorted(devices)
    )


def _wins(times: dict[tuple[str, str], float], device: str) -> str:
    """Least rows, by columns, from which on a device is faster at every size measured."""
    words = []
    for d in dict.fromkeys(case.n_features for case in SIZES):
        first = None
        for case in (case for case in reversed(SIZES) if case.n_features == d):
            if times[str(case), device] >= times[str(case), "accel numpy"]:
                break
            first = case.n_samples
        words.append(f"no rows x {d}" if first is None else f"{first:,} x {d}")
    return ", ".join(words)


def picture(path: Path, found: list[dict[str, Any]]) -> None:
    """Time of a pass against the number of rows, a line for each contender.

    Parameters
    ----------
    path : Path
        The PNG.
    found : list of dict
        Rows of `measure`.
    """
    from accel.plots import lines

    series: dict[str, list[tuple[float, float]]] = {}
    for row in found:
        if row["kind"] == "pass" and row["shape"][1] == COLUMNS[-1]:
            point = (row["shape"][0], 1e3 * row["median_s"])
            series.setdefault(row["contender"], []).append(point)
    lines(path, series, "One pass, 784 columns, float32", "rows", "milliseconds")
