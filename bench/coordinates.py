"""What each change of variables is worth: the same problem walked with and without it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accel.backends import get_backend
from accel.benchmark.cases import (
    LessonCase,
)
from accel.conditioning import Standardised, look, row_space
from accel.disk import write_atomically
from accel.losses import LOSSES
from accel.network import Network
from accel.objective import Objective
from accel.solvers import Solution, minimize
from accel.solvers.gd import GradientDescent
from accel.solvers.lbfgs import LBFGS
from accel.solvers.newton_cg import NewtonCG
from bench.suite import SUITE

Array = Any
Curve = tuple[list[float], list[float]]  # passes or seconds, objective
WITH, WITHOUT = "#0072B2", "#D55E00"


def _objective(X: Array, y: Array) -> Objective:
    n_classes = len(np.unique(y))
    loss = LOSSES["logistic" if n_classes == 2 else "softmax"]
    return Objective(
        X,
        loss.encode_target(y),
        np.full(len(X), 1 / len(X)),
        loss=loss,
        network=Network(X.shape[1], loss.n_outputs(n_classes)),
        alpha=1 / len(X),
        backend=get_backend("numpy"),
    )


def _case(name: str) -> Objective:
    case = next(case for case in SUITE if case.name == name)
    return _objective(*case.data)


def _walk(problem: Any, start: Array, solver: Any, counter: Callable[[], float]) -> Curve:
    """Objective at each update, against what the counter says then."""
    at: list[float] = []
    values: list[float] = []

    def note(progress: Any) -> None:
        at.append(counter())
        values.append(progress.value)

    _: Solution = minimize(problem, start, solver, tol=1e-9, max_iter=400, callback=note)
    return at, values


def _passes(objective: Objective) -> Callable[[], float]:
    weight = {"curvature": 0.5}  # forward only
    return lambda: sum(weight.get(name, 1) * n for name, n in objective.passes.items())


def _seconds() -> Callable[[], float]:
    started = time.perf_counter()
    return lambda: 1e3 * (time.perf_counter() - started)


def _standard(objective: Objective, *, centre: bool, scale: bool) -> Standardised:
    columns, start = look(objective), np.zeros(objective.network.n_params)
    sigma = np.sqrt(np.maximum(columns.spread**2 / 4, objective.alpha))
    return Standardised(
        objective, objective, start, columns.mean if centre else None,
        1 / sigma if scale else None,
    )  # fmt: skip


def _above_the_lowest(curves: list[Curve]) -> list[Curve]:
    lowest = min(min(values) for _, values in curves)
    return [(at, [value - lowest for value in values]) for at, values in curves]


def centring() -> list[Curve]:
    """L-BFGS on 8 x 8 digits, as they are and centred."""
    curves = []
    for centre in (False, True):
        objective = _case("digits /16")
        problem = _standard(objective, centre=centre, scale=False)
        curves.append(_walk(problem, problem.start, LBFGS(), _passes(objective)))
    return _above_the_lowest(curves)


def scaling() -> list[Curve]:
    """L-BFGS on wine, centred, and centred and scaled."""
    curves = []
    for scale in (False, True):
        objective = _case("wine")
        problem = _standard(objective, centre=True, scale=scale)
        curves.append(_walk(problem, problem.start, LBFGS(), _passes(objective)))
    return _above_the_lowest(curves)


def metric() -> list[Curve]:
    """Newton-CG on the tall case, without and with the metric from a row sample."""
    curves = []
    for affordable in (False, True):
        objective = _case("tall")
        problem = _standard(objective, centre=True, scale=False)
        with mock.patch("accel.solvers.curvature.affordable", lambda *_, is_it=affordable: is_it):
            curves.append(_walk(problem, problem.start, NewtonCG(), _passes(objective)))
    return _above_the_lowest(curves)


def reduction() -> list[Curve]:
    """Gradient descent on 348 images of 64 x 64, in 4,096 coordinates and in 348."""
    X, y = LessonCase().data
    objective = _objective(X.astype(np.float64), y)
    start, solver = np.zeros(objective.network.n_params), GradientDescent(0.009)
    full = _walk(objective, start, solver, _seconds())
    count = _seconds()  # the Gram matrix is in it
    reduced = row_space(objective, start, 400)
    assert reduced is not None
    short = _walk(reduced, reduced.start, solver, count)
    lowest = minimize(reduced, reduced.start, LBFGS(), tol=1e-10, max_iter=1000).value
    return [(at, [value - lowest for value in values]) for at, values in (full, short)]


PANELS = {
    "Centring\nL-BFGS, digits": (centring, "as it is", "centred", "passes over X"),
    "Scaling\nL-BFGS, wine": (scaling, "centred", "and scaled", "passes over X"),
    "Metric\nNewton-CG, 300,000 x 50": (metric, "without", "with", "passes over X"),
    "Row space\ngradient descent, 348 x 4,096": (
        reduction, "4,096 coordinates", "348 coordinates", "milliseconds",
    ),
}  # fmt: skip


def draw(path: Path) -> Path:
    """One panel for each change of variables; returns the picture."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axes, (title, (curves, before, after, unit)) in zip(
        figure.subplots(2, 2).flat, PANELS.items(), strict=True
    ):
        _panel(axes, title, curves(), (before, after), unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=100))
    return path


def _panel(axes: Axes, title: str, curves: list[Curve], names: tuple[str, str], unit: str) -> None:
    for (at, above), name, colour in zip(curves, names, (WITHOUT, WITH), strict=True):
        axes.plot(at, np.maximum(above, 1e-12), color=colour, label=name, linewidth=2)
    axes.set(title=title, xlabel=unit, ylabel="objective above its minimum", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
