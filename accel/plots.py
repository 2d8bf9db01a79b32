"""The pictures: each function writes one file. matplotlib is imported here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accel.disk import write_atomically

Array = Any
DPI = 120


def _figure(**options: Any) -> Any:
    """An empty figure that draws to files, whatever MPLBACKEND asks for.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    asked = os.environ.pop("MPLBACKEND", None)  # a wrong one ends the import with a traceback
    try:
        from matplotlib.figure import Figure
    finally:
        if asked is not None:
            os.environ["MPLBACKEND"] = asked
    return Figure(**options)


def _whole_numbers() -> Any:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def _save(figure: Any, path: Path) -> None:
    kind = path.suffix.removeprefix(".")
    write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=DPI))


def images(path: Path, pictures: Array, titles: Sequence[str]) -> None:
    """Grey images side by side.

    Parameters
    ----------
    path : Path
        The PNG.
    pictures : array (n, height, width)
        Grey values.
    titles : sequence of str
        One for each.
    """
    figure = _figure(figsize=(3 * len(titles), 3.3), layout="constrained")
    for axes, picture, title in zip(
        np.atleast_1d(figure.subplots(1, len(titles))), pictures, titles, strict=True
    ):
        axes.imshow(picture, cmap="gray")
        axes.set_title(title)
        axes.set_axis_off()
    _save(figure, path)


def cost_curve(path: Path, cost: Array, title: str, x_label: str = "iteration") -> None:
    """Cost before every update, or of every epoch.

    Parameters
    ----------
    path : Path
        The PNG.
    cost : array (n_iter,)
        Objective before update i.
    title : str
        Above the axes.
    x_label : str, default="iteration"
        What i counts.
    """
    figure = _figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(np.arange(len(cost)), cost, color="C0", marker="." if len(cost) < 2 else None)
    axes.set(xlabel=x_label, ylabel="cost", title=title)
    axes.xaxis.set_major_locator(_whole_numbers())
    if len(cost) and np.min(cost) > 0 and np.max(cost) > 30 * np.min(cost):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    _save(figure, path)


def cost_curves(path: Path, costs: dict[str, Array], title: str) -> None:
    """Several costs over their iterations.

    Parameters
    ----------
    path : Path
        The PNG.
    costs : dict of array
        Name -> cost of each iteration, all positive.
    title : str
        Above the axes.
    """
    figure = _figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, cost in costs.items():
        axes.plot(np.arange(len(cost)), cost, label=name)
    axes.set(xlabel="update, or epoch of Adam", ylabel="cost", title=title, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def weight_grid(path: Path, pictures: Array, title: str) -> None:
    """Weights of several neurons as pictures on one scale, red where positive, blue where negative.

    Parameters
    ----------
    path : Path
        The PNG.
    pictures : array (n, height, width)
        Weights in the place of their pixels.
    title : str
        Above all.
    """
    columns = min(8, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = _figure(figsize=(1.1 * columns, 1.1 * rows + 0.5), layout="constrained")
    extreme = float(np.abs(pictures).max()) or 1.0
    for place, axes in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
        axes.set_axis_off()
        if place < len(pictures):
            axes.imshow(pictures[place], cmap="coolwarm", vmin=-extreme, vmax=extreme)
    figure.suptitle(title)
    _save(figure, path)


def weights(path: Path, picture: Array, title: str) -> None:
    """Learned weights as a picture, red for the second class, blue for the first.

    Parameters
    ----------
    path : Path
        The PNG.
    picture : array (height, width)
        Weights in the place of their pixels.
    title : str
        Above the axes.
    """
    figure = _figure(figsize=(4.6, 4), layout="constrained")
    axes = figure.subplots()
    extreme = float(np.abs(picture).max()) or 1.0
    shown = axes.imshow(picture, cmap="coolwarm", vmin=-extreme, vmax=extreme)
    axes.set_title(title)
    axes.set_axis_off()
    figure.colorbar(shown, label="weight")
    _save(figure, path)


def confusion(path: Path, matrix: Array, labels: Sequence[str]) -> None:
    """Confusion matrix: true labels down, predicted labels across.

    Parameters
    ----------
    path : Path
        The PNG.
    matrix : array (n_classes, n_classes)
        Counts.
    labels : sequence of str
        Names of the classes.
    """
    n = len(labels)
    side = min(12.0, 3 + 0.45 * n)
    figure = _figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(matrix, cmap="Blues", vmin=0)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix, test rows")
    if n <= 30:
        rotation = 45 if max(map(len, labels)) > 3 else 0
        axes.set_xticks(range(n), labels, rotation=rotation, parse_math=False)
        axes.set_yticks(range(n), labels, parse_math=False)
        dark = matrix.max() / 2
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if count > dark else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(shown, label="rows")
    _save(figure, path)


def lines(
    path: Path,
    series: dict[str, list[tuple[float, float]]],
    title: str,
    x_label: str,
    y_label: str,
) -> None:
    """A line for each series, both axes logarithmic.

    Parameters
    ----------
    path : Path
        The picture; its ending chooses PNG or SVG.
    series : dict
        Name -> points (x, y), positive.
    title, x_label, y_label : str
        Texts.
    """
    figure = _figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for place, (name, points) in enumerate(series.items()):
        x, y = zip(*sorted(points), strict=True)
        axes.plot(x, y, marker="osD^vP*X"[place % 8], label=name)
    axes.set(xscale="log", yscale="log", xlabel=x_label, ylabel=y_label, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, path)
