"""docs/scale.md: rates from disk, fits, and the cost model of a cluster with its picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.report import Run, between_marks, machine_line

SCALE_MARKS = ("<!-- scale -->", "<!-- /scale -->")
CLUSTER_MARKS = ("<!-- cluster -->", "<!-- /cluster -->")
FEATURES, ITEMSIZE = 1000, 4  # of the picture: float32
GPU_BYTES_PER_S = (
    2e12  # assumed, not measured: 60 % of the memory bandwidth in an H100's data sheet
)
WORKERS = (2, 8, 64)
PARTS_PER_WORKER = 1


@dataclass(frozen=True)
class CostModel:
    """Seconds of a pass: what computing takes, and what the scheduler does.

    Parameters
    ----------
    bytes_per_s : float
        That one worker reads.
    t_0, t_1 : float
        Seconds of the scheduler a pass, and more for each partition.
    """

    bytes_per_s: float
    t_0: float
    t_1: float

    def computing(self, n, workers):
        """Seconds in which the workers read their rows."""
        return n * FEATURES * ITEMSIZE / (workers * self.bytes_per_s)

    def waiting(self, workers):
        """Seconds that dask takes."""
        return self.t_0 + self.t_1 * PARTS_PER_WORKER * workers

    def pays_above(self, workers):
        """Rows from which so many workers are faster than one process without a scheduler."""
        saved = 1 - 1 / workers
        return self.waiting(workers) * self.bytes_per_s / (FEATURES * ITEMSIZE * saved)


def write(run: Run, page: Path) -> None:
    """Tables between the marks of the page, and the picture of the model."""
    of = {}
    for row in run["rows"]:
        of.setdefault(row["kind"], []).append(row)
    between_marks(page, SCALE_MARKS, f"{_rates(of)}\n\n{_fits(of['stream fit'])}")
    cpu = fitted(of)
    gpu = CostModel(GPU_BYTES_PER_S, cpu.t_0, cpu.t_1)
    picture(page.parent / "pictures" / "scale.png", cpu, gpu)
    between_marks(page, CLUSTER_MARKS, f"{_model(of, cpu, gpu)}\n\n{machine_line(run)}")


def fitted(of: dict[str, list[dict]]) -> CostModel:
    """The model's numbers, by least squares over the measured passes."""
    rows = [row for row in of["cluster pass"] if row["features"] == max(
        other["features"] for other in of["cluster pass"])]  # fmt: skip
    parts = np.array([row["partitions"] for row in rows])
    seconds = np.array([row["median_s"] for row in rows])
    # relative errors count: a line through 1 and through 128 partitions alike
    design = np.stack([np.ones_like(seconds), parts], axis=1) / seconds[:, None]
    t_0, t_1 = np.linalg.lstsq(design, np.ones_like(seconds), rcond=None)[0]
    passes = next(row for row in of["stream"] if "float32 from the page cache" in row["case"])
    return CostModel(passes["gigabytes_per_s"] * 1e9 / 2, t_0, t_1)  # measured on two cores


def _rates(of: dict[str, list[dict]]) -> str:
    text = ["| one pass | GB/s | the disk or link alone | share |", "|---|---|---|---|"]
    text += [
        f"| {row['case'].removeprefix('pass over ')} | {row['gigabytes_per_s']:.1f} "
        f"| {row['ceiling_gigabytes_per_s']:.1f} | {row['share']:.0%} |"
        for row in of["stream"]
    ]
    return "\n".join(text)


def _fits(rows: list[dict]) -> str:
    text = ["| one fit, from the file to the certificate | seconds | reads of X |", "|---|---|---|"]
    for row in rows:
        where = {"resident": "loaded first", "stream": "streamed"}[row["contender"].split(", ")[1]]
        text.append(
            f"| {row['case'].removeprefix('fit of ')}, {where} | {row['median_s']:.2f} "
            f"| {row['passes']} |"
        )
    return "\n".join(text)


def _model(of: dict[str, list[dict]], cpu: CostModel, gpu: CostModel) -> str:
    text = [
        "| one fit | seconds | reads of X | beside the faster of one process |",
        "|---|---|---|---|",
    ]
    text += [
        f"| {row['case'].removeprefix('fit of ')}, {row['contender']} | {row['median_s']:.2f} "
        f"| {row['passes']} | {row['ratio']:.2f}x |"
        for row in of["cluster fit"]
    ]
    text += [
        "",
        f"Measured here: R = {cpu.bytes_per_s / 1e9:.1f} GB/s a worker (half of two cores'), "
        f"t_0 = {1e3 * cpu.t_0:.0f} ms, t_1 = {1e3 * cpu.t_1:.1f} ms; a partition sends "
        f"{(FEATURES + 1) * ITEMSIZE / 1e3:.1f} kB for {FEATURES} columns and one output.",
        "",
        "| workers | dask a pass | pays above, CPU | pays above, GPU (assumed) |",
        "|---|---|---|---|",
    ]
    text += [
        f"| {w} | {1e3 * cpu.waiting(w):.0f} ms | {_rows(cpu.pays_above(w))} rows "
        f"| {_rows(gpu.pays_above(w))} rows |"
        for w in WORKERS
    ]
    largest = 1e9
    text += [
        "",
        f"A pass over 1e9 rows x {FEATURES} float32 (4 TB): "
        + ", ".join(
            f"{name} {model.computing(largest, 64) + model.waiting(64):.2f} s, of which dask "
            f"{model.waiting(64) / (model.computing(largest, 64) + model.waiting(64)):.0%}"
            for name, model in (("64 CPU workers", cpu), ("64 GPUs", gpu))
        )
        + f". {GPU_BYTES_PER_S / 1e12:.0f} TB/s a GPU is assumed; an H200 read 4.5.",
        "",
        "![Seconds of a pass against rows, for 2, 8 and 64 workers](pictures/scale.png)",
    ]
    return "\n".join(text)


def _rows(n: float) -> str:
    if n < 1e6:
        return f"{n:,.0f}"
    return f"{n / 1e6:.3g} million" if n < 1e9 else f"{n / 1e9:.3g} billion"


def picture(path: Path, cpu: CostModel, gpu: CostModel) -> None:
    """Seconds of a pass against rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    n = np.geomspace(1e5, 1e9, 200)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, constrained_layout=True)
    titles = (f"CPU workers, {cpu.bytes_per_s / 1e9:.0f} GB/s each (measured)",
              f"GPUs, {gpu.bytes_per_s / 1e12:.0f} TB/s each (assumed)")  # fmt: skip
    for ax, model, title in zip(axes, (cpu, gpu), titles, strict=True):
        ax.plot(n, model.computing(n, 1), color="0.5", linestyle="--", label="1, without dask")
        for workers, color in zip(WORKERS, ("tab:blue", "tab:orange", "tab:green"), strict=True):
            total = model.computing(n, workers) + model.waiting(workers)
            ax.plot(n, total, color=color, label=f"{workers} with dask")
            even = model.pays_above(workers)
            if n[0] <= even <= n[-1]:
                ax.plot(even, model.computing(even, 1), "o", color=color)
        ax.set(xscale="log", yscale="log", title=title, xlabel=f"rows of {FEATURES} float32")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("seconds of a pass")
    axes[0].legend(fontsize=8)
    figure.suptitle("Dots: from here on they are faster than one without dask", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
