"""Newton's method for a few parameters: the whole Hessian and its factor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from accel.solvers.curvature import newton_steps
from accel.solvers.descent import descend
from accel.solvers.loop import State, evaluate

Array = Any


@dataclass(frozen=True)
class NewtonCholesky:
    r"""Newton's method with the exact Hessian, for linear models with few parameters.

    .. math:: \theta \leftarrow \theta - t\, H(\theta)^{-1} \nabla f(\theta)

    with t from a strong Wolfe line search.

    Notes
    -----
    Nocedal & Wright, Numerical Optimization, 2nd ed., Algorithm 3.2, page 48. Converges in 5 to 10
    updates on most data; an update forms H, (features x outputs)^2 numbers, and factors it.
    """

    may_condition: ClassVar[bool] = True

    def expected_passes(self, max_iter: int) -> int:
        """Ten updates, each of value, curvature and Hessian."""
        return min(3 * max_iter, 30)

    def init(self, objective: Any, params: Array) -> State:
        """Objective and gradient at the start."""
        gradient, (value, error) = evaluate(objective, params)
        return State(params, gradient, value, error, n_evals=1)

    def step(self, objective: Any, state: State) -> State:
        """One update."""
        following = state
        for direction in newton_steps(objective.quadratic(state.params), state.gradient):
            following = descend(objective, replace(state, n_evals=following.n_evals), direction)[0]
            if not following.stalled:
                break
        return following
