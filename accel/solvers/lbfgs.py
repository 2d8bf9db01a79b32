"""Limited-memory BFGS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from accel.solvers.line_search import Point, wolfe_search
from accel.solvers.loop import State

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
    memory : int, default=10
        Pairs kept.

    Notes
    -----
    Nocedal & Wright, Numerical Optimization, 2nd ed., Algorithms 7.4 and 7.5, pages 178 and 179.
    All vectors stay on the device. Each evaluation brings its four numbers (value, max|gradient|,
    and the slopes at both ends of the step) to the host in one transfer, so an iteration whose
    first step is accepted synchronises once; s.y follows from the two slopes without another.
    """

    memory: int = 10

    def init(self, objective: Any, params: Array) -> State:
        """Objective and gradient at the start, an empty memory."""
        xp = objective.backend.xp
        value, gradient = objective.value_and_grad(params)
        value, error = objective.backend.scalars(value, xp.max(xp.abs(gradient)))
        return State(params, gradient, value, error, n_evals=1, memory=())

    def step(self, objective: Any, state: State) -> State:
        """One line search along the quasi-Newton direction, or along -gradient where that fails."""
        following = self._search(objective, state)
        if following.stalled and state.memory:
            restarted = replace(state, memory=(), n_evals=following.n_evals)
            following = self._search(objective, restarted)
        return following

    def _search(self, objective: Any, state: State) -> State:
        xp, scalars = objective.backend.xp, objective.backend.scalars
        direction = self._direction(state, xp)
        n_evals = state.n_evals

        def evaluate(step: float) -> tuple[Point, float]:
            nonlocal n_evals
            n_evals += 1
            params = state.params + step * direction
            value, gradient = objective.value_and_grad(params)
            value, error, slope, slope_0 = scalars(
                value,
                xp.max(xp.abs(gradient)),
                xp.sum(gradient * direction, dtype=xp.float64),
                xp.sum(state.gradient * direction, dtype=xp.float64),
            )
            return Point(step, value, slope, (params, gradient, error)), slope_0

        first, slope_0 = evaluate(1.0)
        found = None
        if slope_0 < 0:
            found = wolfe_search(
                lambda step: evaluate(step)[0],
                Point(0.0, state.value, slope_0),
                first,
                rounding=4 * float(xp.finfo(state.params.dtype).eps) * abs(state.value),
            )
        if found is None:
            return replace(state, stalled=True, n_evals=n_evals)
        params, gradient, error = found.payload
        pair = Pair(
            params - state.params, gradient - state.gradient, found.step * (found.slope - slope_0)
        )
        memory = (*state.memory, pair)[-self.memory :] if pair.sy > 0 else state.memory
        return State(params, gradient, found.value, error, n_evals, memory)

    @staticmethod
    def _direction(state: State, xp: Any) -> Array:
        """Two-loop recursion, Algorithm 7.4; scalars stay on the device as 0-d arrays."""
        q = -state.gradient
        if not state.memory:
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
