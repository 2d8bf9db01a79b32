"""One line search along a direction: what Newton and quasi-Newton methods do once an update."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from accel.solvers.certificate import eps_of
from accel.solvers.line_search import VALUE_NOISE, Point, wolfe_search
from accel.solvers.loop import State, evaluate

Array = Any


def descend(objective: Any, state: State, direction: Array) -> tuple[State, float]:
    """The state after a strong Wolfe step along a direction.

    Parameters
    ----------
    objective : Objective
        Or a change of its variables.
    state : State
        Where to start.
    direction : array (n_params,)
        Where to go; step 1 is tried first.

    Returns
    -------
    state : State
        The next state; the same one, marked as stalled, where no step lowers the objective.
    curvature : float
        s'y, the change of params times the change of the gradient.

    Notes
    -----
    Each evaluation brings its numbers (value, max|gradient|, slope) to the host in one transfer;
    the slope at the start comes with the first, and s'y follows from the two slopes.
    """
    xp = objective.backend.xp
    n_evals = state.n_evals

    def slope(gradient: Array) -> Array:
        return xp.sum(gradient * direction, dtype=xp.float64)

    def trial(step: float, *more: Any) -> tuple[Point, tuple[float, ...]]:
        nonlocal n_evals
        n_evals += 1
        params = state.params + step * direction
        gradient, numbers = evaluate(objective, params, slope, *more)
        value, error, slope_there, *extras = numbers
        return Point(step, value, slope_there, (params, gradient, error)), tuple(extras)

    first, (slope_0,) = trial(1.0, lambda _: slope(state.gradient))
    found = None
    if slope_0 < 0:
        found = wolfe_search(
            lambda step: trial(step)[0],
            Point(0.0, state.value, slope_0),
            first,
            rounding=VALUE_NOISE * eps_of(state.params, xp) * abs(state.value),
        )
    if found is None:
        return replace(state, stalled=True, n_evals=n_evals, promise=abs(slope_0) / 2), 0.0
    params, gradient, error = found.payload
    following = State(
        params, gradient, found.value, error, n_evals, state.memory, promise=abs(slope_0) / 2
    )
    return following, found.step * (found.slope - slope_0)
