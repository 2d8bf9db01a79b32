"""One Markdown page of a run: tables, a roofline, speed against size, distance against time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from accel.disk import write_atomically
from accel.plots import lines
from bench.ceiling_rates import ceiling_of, device_of
from bench.convergence_report import pictures, summary
from bench.gpu_page import device_table

RESULTS = Path(__file__).parent / "results"
MARKS = ("<!-- bench -->", "<!-- /bench -->")
Run = dict[str, Any]


def load(path: Path) -> Run:
    """The JSON of a run; ValueError says what is wrong with the file."""
    try:
        run = json.loads(path.read_text())
        if not run["rows"] or "commit" not in run["machine"]:
            raise ValueError("no rows")
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the JSON of a run: write one with --record.") from error
    return run


def newest(kind: str, tests: str, contender: str | None = None) -> Run:
    """The newest run in bench/results/ with rows of this kind, by the date inside."""
    runs = [load(path) for path in RESULTS.glob("*.json")]
    found = [
        run for run in runs
        if any(
            row["kind"] == kind and contender in (None, row["contender"]) for row in run["rows"]
        )
    ]  # fmt: skip
    if not found:
        raise ValueError(
            f"{RESULTS} holds no run: python -m pytest {tests} --quick --record NAME writes one."
        )
    return max(found, key=lambda run: run.get("date", ""))


def report(run: Run, out: Path) -> Path:
    """Write report.md and its pictures; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    kinds = (
        "ceiling", "pass", "fit", "training", "accuracy", "lesson", "predict", "memory", "cold",
    )  # fmt: skip
    of = {kind: [row for row in run["rows"] if row["kind"] == kind] for kind in kinds}
    parts = ["# Benchmarks", "", machine_line(run), "", "## Ceilings", "", _ceilings(of["ceiling"])]
    parts += ["", "## One pass, forward and backward", "", pass_table(of["pass"], of["ceiling"])]
    if any("device_median_s" in row for row in of["pass"]):
        parts += ["", "### On the GPU, by its own clock", ""]
        parts += [device_table(of["pass"], of["ceiling"])]
    if of["pass"]:
        roofline(out / "roofline.svg", of["pass"], of["ceiling"])
        parts += ["", "![Roofline](roofline.svg)"]
    sizes = _sizes(of["pass"])
    if any(len(points) > 1 for points in sizes.values()):
        lines(out / "sizes.svg", sizes, "One pass, 784 columns, float32", "rows", "milliseconds")
        parts += ["", "![Speed against size](sizes.svg)", "", _winner(sizes)]
    parts += ["", "## Full fits", "", _fits(of["fit"])]
    if of["fit"]:
        gaps(out / "gaps.svg", of["fit"])
        parts += ["", "![Distance to the minimum against time](gaps.svg)"]
    if of["training"]:
        parts += ["", "## Training by batches", "", training_table(of["training"], of["ceiling"])]
    if of["accuracy"]:
        learning(out / "learning.svg", of["accuracy"])
        parts += ["", "## Accuracy on real images", "", _accuracies(of["accuracy"])]
        parts += ["", "![Loss and accuracy of every epoch](learning.svg)"]
    if any(row["kind"] == "convergence" for row in run["rows"]):
        parts += ["", "## Time to a gap", "", "```", summary(run["rows"]), "```"]
        parts += ["", f"![Time against gap]({pictures(run['rows'], out)[-1].name})"]
    if of["cold"]:
        parts += ["", "## Cold start", "", _cold(of["cold"])]
    parts += ["", "## The lesson", "", _checked(of["lesson"], "last cost off by")]
    parts += ["", "## Memory of a fit beyond X", "", _memory(of["memory"])]
    parts += ["", "## Prediction", "", _checked(of["predict"], "labels that differ"), ""]
    page = out / "report.md"
    write_atomically(page, lambda file: file.write("\n".join(parts).encode()))
    return page


def machine_line(run: Run) -> str:
    """On what, with which libraries, when."""
    machine = run["machine"]
    devices = "; ".join(b["device"] for b in machine["backends"] if b["usable"])
    absent = [b["name"] for b in machine["backends"] if not b["usable"]]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    missing = f" Not usable there: {', '.join(absent)}." if absent else ""
    return f"Measured {run['date']} on {devices}, commit {machine['commit']}: {packages}.{missing}"


def pass_table(passes: list[dict], ceilings: list[dict]) -> str:
    """Time, rate, percent of the read bandwidth, times two-pass NumPy, error."""
    text = [
        "| case | contender | median | IQR | cold | GB/s | of ceiling | GFLOP/s "
        "| x two-pass NumPy | error | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in passes:
        base = _median(passes, row["case"], "two-pass NumPy")
        ratio = f"{base / row['median_s']:.2f}" if base else ""
        ceiling = ceiling_of(ceilings, "read bandwidth", row["contender"])
        share = f"{row['gigabytes_per_s'] / ceiling:.0%}" if ceiling else ""
        text.append(
            f"| {row['case']} | {row['contender']} | {_ms(row['median_s'])} | {_ms(row['iqr_s'])} "
            f"| {_ms(row['cold_s'])} | {row['gigabytes_per_s']:.1f} | {share} "
            f"| {row['gigaflops']:.0f} | {ratio} | {row['error']:.0e} | {_valid(row)} |"
        )
    return "\n".join(text)


def _cold(rows: list[dict]) -> str:
    text = ["| first fit in a new process, no kernel compiled | import | first | second |"]
    text.append("|---" * 4 + "|")
    text += [
        f"| {r['case']}, {r['contender']} | {r['import_s']:.2f} s | {r['first_s']:.2f} s "
        f"| {r['second_s']:.3f} s |"
        for r in rows
    ]
    return "\n".join(text)


def training_table(trainings: list[dict], ceilings: list[dict]) -> str:
    """Time, rates, percent of the matrix rate, times scikit-learn and times PyTorch, error.

    PyTorch is the fastest of its ways on the same device in the same precision.
    """
    text = [
        "| case | contender | median | IQR | cold | samples/s | GFLOP/s | of ceiling "
        "| x scikit-learn | x PyTorch | loss off by | |",
        "|---" * 12 + "|",
    ]
    for row in trainings:
        alike = [
            other for other in trainings
            if other["case"] == row["case"] and other["precision"] == row["precision"]
            and device_of(other["contender"]) == device_of(row["contender"])
        ]  # fmt: skip
        peers = [other for other in trainings if other["case"] == row["case"]]
        rate = ceiling_of(ceilings, "matrix rate", row["contender"])
        share = f"{row['gigaflops'] / rate:.0%}" if rate and row["precision"] == "float32" else ""
        text.append(
            f"| {row['case']} | {row['contender']} | {_ms(row['median_s'])} | {_ms(row['iqr_s'])} "
            f"| {_ms(row['cold_s'])} | {row['samples_per_s']:,.0f} | {row['gigaflops']:.3g} "
            f"| {share} | {_times(row, peers, 'scikit-learn')} | {_times(row, alike, 'PyTorch')} "
            f"| {row['error']:.0e} | {_valid(row)} |"
        )
    return "\n".join(text)


def _times(row: dict, others: list[dict], name: str) -> str:
    """How many times as fast as the fastest valid one of a name."""
    found = [o["median_s"] for o in others if o["contender"].startswith(name) and o["valid"]]
    return f"{min(found) / row['median_s']:.2f}" if found else ""


def readme_table(run: Run, readme: Path) -> None:
    """Replace the table between the marks of the README by this run's."""
    wanted = ("accel numpy", "accel cupy", "two-pass NumPy", "scikit-learn", "PyTorch")
    passes = [row for row in run["rows"] if row["kind"] == "pass" and row["valid"]]
    cases = list(dict.fromkeys(row["case"] for row in passes))[1:]  # not the empty one
    names = [name for name in wanted if any(row["contender"] == name for row in passes)]
    text = ["| one pass | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for case in cases:
        times = [_median(passes, case, name) for name in names]
        cells = [f"{1e3 * seconds:.3g} ms" if seconds else "" for seconds in times]
        text.append(f"| {case} | " + " | ".join(cells) + " |")
    lesson = {row["contender"]: row["median_s"] for row in run["rows"] if row["kind"] == "lesson"}
    if {"accel numpy", "as printed"} <= set(lesson):
        text += ["", f"The lesson's 200 updates: {1e3 * lesson['accel numpy']:.3g} ms; the loop as "
                 f"lessons print it: {1e3 * lesson['as printed']:.3g} ms."]  # fmt: skip
    between_marks(readme, MARKS, "\n".join([*text, "", machine_line(run)]))


def between_marks(page: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between two marks of a page."""
    before, _, rest = page.read_text().partition(marks[0])
    after = rest.partition(marks[1])[2]
    body = "\n".join([marks[0], text, marks[1]])
    write_atomically(page, lambda file: file.write((before + body + after).encode()))


def roofline(path: Path, passes: list[dict], ceilings: list[dict]) -> None:
    """GFLOP/s against operations per byte, under the machine's two ceilings."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for device in sorted({row["contender"] for row in ceilings}):
        read = ceiling_of(ceilings, "read bandwidth", f"accel {device}")
        matrix = ceiling_of(ceilings, "matrix rate", f"accel {device}")
        if read and matrix:
            x = [0.1, matrix / read, 100]
            axes.plot(x, [min(matrix, read * value) for value in x], "k-", lw=1)
            axes.annotate(f"{device}: {read:.0f} GB/s, {matrix:.0f} GFLOP/s", (x[1], matrix * 1.1))
    passes = [row for row in passes if row["shape"] != [1, 1, 1]]  # overhead, no work
    for place, name in enumerate(dict.fromkeys(row["contender"] for row in passes)):
        points = [
            (row["gigaflops"] / row["gigabytes_per_s"], row["gigaflops"])
            for row in passes
            if row["contender"] == name
        ]
        axes.plot(*zip(*points, strict=True), "osD^vP*X"[place % 8], label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="operations per byte of X", ylabel="GFLOP/s",
        title="Roofline: one pass",
    )  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    _write(figure, path)


def gaps(path: Path, fits: list[dict]) -> None:
    """Distance to the minimum against seconds, a panel for each case."""
    cases = list(dict.fromkeys(row["case"] for row in fits))
    figure = Figure(figsize=(8, 3 * ((len(cases) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(cases) + 1) // 2, 2, squeeze=False).ravel()
    names = list(dict.fromkeys(row["contender"] for row in fits))
    for axes, case in zip(panels, cases, strict=False):
        for row in fits:
            if row["case"] == case:
                place = names.index(row["contender"])
                axes.plot(
                    row["median_s"], max(row["gap"], 1e-12), "osD^vP*X"[place % 8],
                    color=f"C{place}", label=row["contender"],
                )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="seconds", ylabel="relative gap", title=case)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.2)
        axes.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    _write(figure, path)


def learning(path: Path, accuracies: list[dict]) -> None:
    """Loss and accuracy on rows held out after every epoch, a line for each fit."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for place, row in enumerate(accuracies):
        label, style = f"{row['case']}, {row['contender']}", {"color": f"C{place}", "lw": 1}
        loss.plot(row["curve"]["loss"], label=label, **style)
        accuracy.plot(row["curve"]["accuracy"], **style)
        accuracy.axhline(row["linear_accuracy"], ls=":", **style)
    loss.set(yscale="log", xlabel="epoch", ylabel="loss", title="Mean loss of the epoch")
    accuracy.set(xlabel="epoch", title="Accuracy, rows held out (dotted: linear)")
    loss.legend(fontsize=8)
    for axes in (loss, accuracy):
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    _write(figure, path)


def _accuracies(rows: list[dict]) -> str:
    text = [
        "| data | contender | network | epochs | ending | seconds | accuracy | linear model | |",
        "|---" * 9 + "|",
    ]
    for r in rows:
        network = ", ".join(f"{name}={value}" for name, value in r["configuration"].items())
        text.append(
            f"| {r['case']} | {r['contender']} | {network} | {r['epochs']} | {r['ending']} "
            f"| {r['seconds']:.3g} | {r['accuracy']:.2%} | {r['linear_accuracy']:.2%} "
            f"| {_valid(r)} |"
        )
    return "\n".join(text)


def _ceilings(rows: list[dict]) -> str:
    text = ["| ceiling | device | rate |", "|---|---|---|"]
    text += [f"| {r['case']} | {r['contender']} | {r['rate']:.1f} {r['unit']} |" for r in rows]
    return "\n".join(text)


def _fits(rows: list[dict]) -> str:
    text = [
        "| case | contender | median | cold | iterations | gap to the minimum | |",
        "|---" * 7 + "|",
    ]
    text += [
        f"| {r['case']} | {r['contender']} | {_ms(r['median_s'])} | {_ms(r['cold_s'])} "
        f"| {r['iterations']} | {r['gap']:.1e} | {_valid(r)} |"
        for r in rows
    ]
    return "\n".join(text)


def _checked(rows: list[dict], what: str) -> str:
    text = [f"| case | contender | median | IQR | {what} | |", "|---" * 6 + "|"]
    text += [
        f"| {r['case']} | {r['contender']} | {_ms(r['median_s'])} | {_ms(r['iqr_s'])} "
        f"| {r['error']:.0e} | {_valid(r)} |"
        for r in rows
    ]
    return "\n".join(text)


def _memory(rows: list[dict]) -> str:
    text = ["| fit | X | peak beyond X | |", "|---" * 4 + "|"]
    text += [
        f"| {r['case']} | {r['X_bytes'] / 2**20:.0f} MiB | {r['peak_bytes'] / 2**20:.1f} MiB "
        f"| {_valid(r)} |"
        for r in rows
    ]
    return "\n".join(text)


def _sizes(passes: list[dict]) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in passes:
        if row["shape"][1:] == [784, 1] and row["dtype"] == "float32":
            point = (row["shape"][0], 1e3 * row["median_s"])
            series.setdefault(row["contender"], []).append(point)
    return series


def _winner(sizes: dict[str, list[tuple[float, float]]]) -> str:
    gpu, cpu = dict(sizes.get("accel cupy", [])), dict(sizes.get("accel numpy", []))
    if not gpu:
        return "No GPU was usable in this run, so it has no size at which one starts to win."
    wins = [n for n in sorted(cpu) if n in gpu and gpu[n] < cpu[n]]
    return f"The GPU wins from {wins[0]:,.0f} rows on." if wins else "The GPU wins at no size here."


def _median(rows: list[dict], case: str, contender: str) -> float | None:
    found = [r["median_s"] for r in rows if r["case"] == case and r["contender"] == contender]
    return found[0] if found else None


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _valid(row: dict) -> str:
    return "" if row["valid"] else "INVALID"


def _write(figure: Figure, path: Path) -> None:
    kind = path.suffix.removeprefix(".")
    write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=120))
