"""What a convergence run says: a table, the targets, and time against gap as pictures."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from accel.disk import write_atomically
from bench.convergence import CONTENDERS, reached

Rows = list[dict[str, Any]]
OWN = ("accel", "accel float32")
MEAN_GAP = 1e-6  # at which contenders are compared over the suite
DRAWN_FROM, DRAWN_TO = 1.0, 1e-10
DPI = 100
WIDTH = 100
# Okabe and Ito's colours, which the colour-blind tell apart; accel is black and blue.
STYLES = dict(
    zip(
        CONTENDERS,
        [("#000000", "o"), ("#0072B2", "s"), ("#D55E00", "^"), ("#E69F00", "v"), ("#009E73", "D"),
         ("#CC79A7", "P"), ("#999999", "X"), ("#56B4E9", "*")],
        strict=True,
    )
)  # fmt: skip


class Results:
    """The rows of the suite, asked for by case and contender."""

    def __init__(self, rows: Rows) -> None:
        found = [row for row in rows if row["kind"] == "convergence" and row["valid"]]
        self.points = {(row["case"], row["contender"]): row["trajectory"] for row in found}
        self.defaults = [row for row in rows if row["kind"] == "default"]
        self.cases = list(dict.fromkeys(case for case, _ in self.points))
        if not self.cases:
            raise ValueError("the run holds no convergence rows: name bench/test_convergence.py.")

    def at(self, case: str, contender: str, gap: float) -> Any:
        """The fastest point of a contender within the gap, or None."""
        return reached(self.points.get((case, contender), []), gap)

    def best_peer(self, case: str, gap: float, among: str = "") -> tuple[str, float] | None:
        """Name and seconds of the fastest that is not accel, its name beginning with `among`."""
        found = [
            (self.at(case, name, gap).seconds, name)
            for name in CONTENDERS
            if name not in OWN and name.startswith(among) and self.at(case, name, gap)
        ]
        return min(found)[::-1] if found else None

    def ratio(self, case: str, gap: float, among: str = "") -> float | None:
        """How many times faster than the best peer accel is; None where one never arrived."""
        own, peer = self.at(case, OWN[0], gap), self.best_peer(case, gap, among)
        return peer[1] / own.seconds if own and peer else None

    def least_ratio(self, case: str, gap: float, among: str) -> float | None:
        """The ratio is above this where accel arrives and no peer did, however long its runs."""
        own = self.at(case, OWN[0], gap)
        longest = [
            max(point[1] for point in points)
            for (where, name), points in self.points.items()
            if where == case and name not in OWN and name.startswith(among)
        ]
        return min(longest) / own.seconds if own and longest else None


def summary(rows: Rows) -> str:
    """The table, the geometric mean and the targets, at most 100 columns wide.

    Parameters
    ----------
    rows : list of dict
        Of a run; those of other kinds are passed over.

    Returns
    -------
    str
        Lines of text.

    Raises
    ------
    ValueError
        If the run holds no convergence rows.
    """
    results = Results(rows)
    lines = [
        "Milliseconds to a relative gap; passes, peer and ratio at 1e-6; - is not reached.",
        "",
        f"{'case':16}{'1e-3':>9}{'1e-6':>9}{'1e-8':>9}{'passes':>8}{'float32':>9}"
        f"  {'best peer':17}{'its ms':>9}{'ratio':>8}",
    ]
    for case in results.cases:
        own = results.at(case, OWN[0], MEAN_GAP)
        peer = results.best_peer(case, MEAN_GAP) or ("-", None)
        ratio = results.ratio(case, MEAN_GAP)
        times = [_ms(results.at(case, OWN[0], gap)) for gap in (1e-3, MEAN_GAP, 1e-8)]
        passes = own.passes if own and own.passes is not None else "-"
        lines.append(
            f"{case:16}{times[0]:>9}{times[1]:>9}{times[2]:>9}{passes:>8}"
            f"{_ms(results.at(case, OWN[1], MEAN_GAP)):>9}  {_short(peer[0]):17}"
            f"{_number(peer[1] and 1e3 * peer[1]):>9}{_number(ratio):>8}"
        )
    judged = [fill(line, WIDTH, subsequent_indent=" " * 8) for line in targets(results)]
    return "\n".join([*lines, "", *judged])


def targets(results: Results) -> list[str]:
    """Each target of the project, met or missed, and by how much.

    Parameters
    ----------
    results : Results
        Of a run.

    Returns
    -------
    list of str
        A line for each.
    """
    lines = []
    for among, words, wanted in (
        ("scikit-learn lbfgs", "scikit-learn's lbfgs", 20),
        ("scikit-learn ", "the best scikit-learn solver", 3),
    ):
        what = f"sign ten to 1e-4, times as fast as {words}"
        peer, where = results.best_peer("sign ten", 1e-4, among), ("sign ten", 1e-4, among)
        if peer and not results.at("sign ten", OWN[0], 1e-4):
            lines.append(f"missed: {what}: accel does not get there, {wanted} wanted")
        elif peer:
            lines.append(_judged(what, results.ratio(*where), wanted))
        else:
            lines.append(_judged(what, results.least_ratio(*where), wanted, is_bound=True))
    ratios = {case: results.ratio(case, MEAN_GAP) for case in results.cases}
    known = [ratio for ratio in ratios.values() if ratio]
    mean = float(np.exp(np.mean(np.log(known)))) if known else None
    what = f"geometric mean of the ratio at 1e-6 over {len(known)} cases"
    lines.append(_judged(what, mean, 4))
    if left := [case for case, ratio in ratios.items() if ratio is None]:
        lines.append(
            f"        left out of the mean, accel or every peer not there: {', '.join(left)}"
        )
    own_defaults = [row for row in results.defaults if row["contender"] == OWN[0]]
    warned = [row["case"] for row in own_defaults if row["convergence_warnings"]]
    peer_warned = sum(
        row["convergence_warnings"] > 0 for row in results.defaults if row["contender"] not in OWN
    )
    lines.append(
        f"{'missed' if warned else 'met'}: no ConvergenceWarning by default: {len(warned)} of "
        f"{len(own_defaults)} cases warn{_these(warned)}; scikit-learn's lbfgs: {peer_warned}"
    )
    far = [
        case
        for case in results.cases
        if (case, OWN[1]) in results.points and not results.at(case, OWN[1], 1e-5)
    ]
    lines.append(
        f"{'missed' if far else 'met'}: float32 reaches 1e-5: {len(far)} cases do not{_these(far)}"
    )
    return lines


def _judged(what: str, value: float | None, wanted: float, *, is_bound: bool = False) -> str:
    if value is None:
        return f"not measured: {what}, {wanted} wanted"
    if is_bound:
        verdict = "met" if value >= wanted else "open"
        return f"{verdict}: {what}: above {value:.3g}, it ran out of time, {wanted} wanted"
    verdict = "met" if value >= wanted else "missed"
    return f"{verdict}: {what}: {value:.3g}, {wanted} wanted"


def _short(name: str) -> str:
    """scikit-learn's solvers go by their own names in a narrow table."""
    return name.removeprefix("scikit-learn ")


def _these(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _ms(point: Any) -> str:
    return _number(point and 1e3 * point.seconds)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def pictures(rows: Rows, folder: Path) -> list[Path]:
    """Time against gap: a PNG for each case and one with a panel for each.

    Parameters
    ----------
    rows : list of dict
        Of a run.
    folder : Path
        Made where it does not exist.

    Returns
    -------
    list of Path
        What was written.
    """
    results = Results(rows)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for case in results.cases:
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        _curves(axes, results, case)
        axes.set(xlabel="seconds", ylabel="gap: objective / minimum - 1", title=case)
        axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        written.append(folder / f"{case.replace('/', '').replace(' ', '-')}.png")
        _save(figure, written[-1])
    written.append(folder / "overview.png")
    _overview(results, written[-1])
    return written


def _overview(results: Results, path: Path) -> None:
    columns = min(3, len(results.cases))
    lines = -(-len(results.cases) // columns)
    figure = Figure(figsize=(4 * columns, 3 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    handles: dict[str, Any] = {}
    for axes, case in zip(panels, results.cases, strict=False):
        _curves(axes, results, case)
        axes.set_title(case, fontsize=10)
        handles |= {
            line.get_label(): line for line in axes.get_lines() if line.get_label() in STYLES
        }
    for axes in panels[len(results.cases) :]:
        axes.set_axis_off()
    figure.supxlabel("seconds")
    figure.supylabel("gap: objective / minimum - 1")
    order = [name for name in CONTENDERS if name in handles]
    figure.legend(
        [handles[name] for name in order], order, loc="outside upper center", ncols=4, fontsize=9
    )
    _save(figure, path)


def _curves(axes: Axes, results: Results, case: str) -> None:
    """A line for each contender through its fastest runs, all others as faint marks."""
    for name, (colour, marker) in STYLES.items():
        points = [(p[1], max(p[2], DRAWN_TO)) for p in results.points.get((case, name), [])]
        if not points:
            continue
        own = name in OWN
        style: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5 if own else 4}
        axes.plot(
            *zip(*fastest(points), strict=True), label=name, lw=2.4 if own else 1.3,
            zorder=4 if own else 3, **style,
        )  # fmt: skip
        axes.plot(*zip(*points, strict=True), ls="", alpha=0.3, **style)
    axes.set(xscale="log", yscale="log", ylim=(DRAWN_TO / 2, DRAWN_FROM * 2))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)


def fastest(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (seconds, gap) that no faster one comes closer than: what a time to a gap reads.

    Parameters
    ----------
    points : list of tuple
        In any order.

    Returns
    -------
    list of tuple
        Seconds rise, gaps fall.
    """
    kept: list[tuple[float, float]] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def _save(figure: Figure, path: Path) -> None:
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=DPI))
