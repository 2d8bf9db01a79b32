"""Gradient descent with a fixed learning rate, on all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from accel.solvers.loop import State, evaluate

Array = Any


@dataclass(frozen=True)
class GradientDescent:
    r"""Full-batch gradient descent.

    .. math:: \theta \leftarrow \theta - \eta\, \nabla f(\theta)

    Parameters
    ----------
    learning_rate : float
        :math:`\eta`.
    """

    learning_rate: float
    may_condition: ClassVar[bool] = False  # its iterates are the lesson, not only their limit

    def expected_passes(self, max_iter: int) -> int:
        """It rarely stops early."""
        return max_iter

    def init(self, objective: Any, params: Array) -> State:
        """Objective and gradient at the start."""
        return self._state(objective, params, n_evals=1)

    def step(self, objective: Any, state: State) -> State:
        """One update."""
        params = state.params - self.learning_rate * state.gradient
        return self._state(objective, params, n_evals=state.n_evals + 1)

    def _state(self, objective: Any, params: Array, n_evals: int) -> State:
        gradient, (value, error) = evaluate(objective, params)
        return State(params, gradient, value, error, n_evals)
