"""Limited-memory BFGS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from accel.solvers.descent import descend
from accel.solvers.loop import State, evaluate

Array = Any
WINDOW = 8  # updates whose gain tells of what is left


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS: the two-loop recursion and a strong Wolfe line search.

    Parameters
    ----------
    n_pairs : int, default=10
        Updates remembered.
    inverse : callable, optional
        gradient -> about H^-1 gradient, where something is known of the Hessian: what the memory
        corrects. The first step is then Newton's; without it the Hessian starts as a multiple of
        one.

    Notes
    -----
    Nocedal & Wright, Numerical Optimization, 2nd ed., Algorithms 7.4 and 7.5, pages 178 and 179.
    All vectors stay on the device; an iteration whose first step is accepted synchronises once.
    An update is remembered as (s, y, s'y), changes of params and of the gradient, and a number.
    """

    n_pairs: int = 10
    inverse: Callable[[Array], Array] | None = None
    may_condition: ClassVar[bool] = True

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
            again = self._search(objective, restarted)
            # the promise of the quasi-Newton direction is the better estimate of what is left
            following = replace(again, promise=following.promise) if again.stalled else again
        return following

    def _search(self, objective: Any, state: State) -> State:
        direction = _direction(state, objective.backend.xp, self.inverse)
        following, sy = descend(objective, state, direction)
        if (
            not state.memory and self.inverse is None
        ):  # the first direction knows no curvature and promises nothing
            following = replace(following, promise=float("inf"))
        if following.stalled:
            return following
        memory = state.memory
        if sy > 0:
            s, y = following.params - state.params, following.gradient - state.gradient
            memory = (*memory, (s, y, sy))
        memory = memory[max(0, len(memory) - self.n_pairs) :]
        # a few pairs know little of most directions: what the last ones gained, about s'y / 2 each,
        # may come again
        least = 0.0 if self.inverse else sum(sy for _, _, sy in memory[-WINDOW:]) / 2
        return replace(following, memory=memory, least=least)


def _direction(state: State, xp: Any, inverse: Callable[[Array], Array] | None) -> Array:
    """Two-loop recursion, Algorithm 7.4; its scalars stay on the device as 0-d arrays."""
    q = -state.gradient
    if not state.memory and inverse is not None:
        return inverse(q)
    if not state.memory:
        q = q / state.error  # first, or the square of a large gradient overflows
        return q / xp.sqrt(q @ q)
    coefficients = []
    for s, y, sy in reversed(state.memory):
        a = (s @ q) / sy
        coefficients.append(a)
        q = q - a * y
    _, y, sy = state.memory[-1]
    z, q = (y, q) if inverse is None else (inverse(y), inverse(q))
    q = q * (sy / (y @ z))
    for (s, y, sy), a in zip(state.memory, reversed(coefficients), strict=True):
        q = q + (a - (y @ q) / sy) * s
    return q
