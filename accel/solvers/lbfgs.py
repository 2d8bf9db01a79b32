"""Limited-memory BFGS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from accel.solvers.line_search import Point, wolfe_search
from accel.solvers.loop import State, evaluate

Array = Any


@dataclass(frozen=True)
class Pair:
    """One update: s = change of params, y = change of gradient, both on the device, and s.y."""

    s: Array
    y: Array
    sy: float


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS: the two-loop recursion and a strong Wolfe line search.

    Parameters
    ----------
    n_pairs : int, default=10
        Updates remembered.

    Notes
    -----
    Nocedal & Wright, Numerical Optimization, 2nd ed., Algorithms 7.4 and 7.5, pages 178 and 179.
    All vectors stay on the device. Each evaluation brings its numbers (value, max|gradient|, slope
    along the step) to the host in one transfer, so an iteration whose first step is accepted
    synchronises once; s.y follows from the two slopes without another.
    """

    n_pairs: int = 10
    may_centre: ClassVar[bool] = True

    def expected_passes(self, max_iter: int) -> int:
        """Between 30 and 100 on most data."""
        return min(max_iter, 50)

    def init(self, objective: Any, params: Array) -> State:
        """Objective and gradient at the start, nothing remembered."""
        gradient, (value, error) = evaluate(objective, params)
        return State(params, gradient, value, error, n_evals=1, memory=())

    def step(self, objective: Any, state: State) -> State:
        """One line search along the quasi-Newton direction, or along -gradient where that fails."""
        following = self._search(objective, state)
        if following.stalled and state.memory:
            restarted = replace(state, memory=(), n_evals=following.n_evals)
            following = self._search(objective, restarted)
        return following

    def _search(self, objective: Any, state: State) -> State:
        xp = objective.backend.xp
        direction = _direction(state, xp)
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

        # The slope at the start comes with the first trial, not in a transfer of its own.
        first, (slope_0,) = trial(1.0, lambda _: slope(state.gradient))
        found = None
        if slope_0 < 0:
            found = wolfe_search(
                lambda step: trial(step)[0],
                Point(0.0, state.value, slope_0),
                first,
                rounding=4 * float(xp.finfo(state.params.dtype).eps) * abs(state.value),
            )
        if found is None:
            return replace(state, stalled=True, n_evals=n_evals)
        params, gradient, error = found.payload
        s, y = params - state.params, gradient - state.gradient
        sy = found.step * (found.slope - slope_0)
        memory = (*state.memory, Pair(s, y, sy)) if sy > 0 else state.memory
        kept = memory[max(0, len(memory) - self.n_pairs) :]
        return State(params, gradient, found.value, error, n_evals, kept)


def _direction(state: State, xp: Any) -> Array:
    """Two-loop recursion, Algorithm 7.4; its scalars stay on the device as 0-d arrays."""
    q = -state.gradient
    if not state.memory:
        q = q / state.error  # first, or the square of a large gradient overflows
        return q / xp.sqrt(q @ q)
    coefficients = []
    for pair in reversed(state.memory):
        a = (pair.s @ q) / pair.sy
        coefficients.append(a)
        q = q - a * pair.y
    last = state.memory[-1]
    q = q * (last.sy / (last.y @ last.y))
    for pair, a in zip(state.memory, reversed(coefficients), strict=True):
        q = q + (a - (pair.y @ q) / pair.sy) * pair.s
    return q
