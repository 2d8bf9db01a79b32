"""Gradient descent with a fixed learning rate, on all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accel.solvers.loop import State

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

    def init(self, objective: Any, params: Array) -> State:
        """Objective and gradient at the start."""
        return self._state(objective, params, n_evals=1)

    def step(self, objective: Any, state: State) -> State:
        """One update."""
        params = state.params - self.learning_rate * state.gradient
        return self._state(objective, params, n_evals=state.n_evals + 1)

    def _state(self, objective: Any, params: Array, n_evals: int) -> State:
        xp = objective.backend.xp
        value, gradient = objective.value_and_grad(params)
        value, error = objective.backend.scalars(value, xp.max(xp.abs(gradient)))
        return State(params, gradient, value, error, n_evals)
