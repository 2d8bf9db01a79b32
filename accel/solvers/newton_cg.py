"""Newton's method by conjugate gradients: products with the Hessian, never the matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar

from accel.solvers.curvature import metric
from accel.solvers.descent import descend
from accel.solvers.loop import State, evaluate

Array = Any
LARGEST_FORCING = 0.5


@dataclass(frozen=True)
class NewtonCG:
    r"""Truncated Newton: the Newton system is solved as far as it helps, by conjugate gradients.

    .. math:: \|H p + g\| \le \eta\, \|g\|, \qquad
              \eta = \min\left(\tfrac12, \sqrt{\|g\| / \|g_0\|}\right)

    in the norm of the `metric`, which preconditions the iteration where it is affordable.

    Parameters
    ----------
    max_products : int, default=250
        Most Hessian products in one update.

    Notes
    -----
    Nocedal & Wright, Numerical Optimization, 2nd ed., Algorithm 7.1, page 169. A product H v is one
    pass over X; every iteration brings two numbers to the host in one transfer.
    """

    max_products: int = 250
    may_condition: ClassVar[bool] = True

    def expected_passes(self, max_iter: int) -> int:
        """Between 15 and 100 on most data."""
        return min(3 * max_iter, 50)

    def init(self, objective: Any, params: Array) -> State:
        """Objective and gradient at the start; remembers the norm of the first gradient."""
        gradient, (value, error) = evaluate(objective, params)
        return State(params, gradient, value, error, n_evals=1)

    def step(self, objective: Any, state: State) -> State:
        """One update."""
        quadratic = objective.quadratic(state.params)
        precondition = metric(quadratic) or (lambda gradient: gradient)
        z = precondition(state.gradient)
        (square,) = objective.backend.scalars(state.gradient @ z)
        norm = sqrt(max(square, 0.0))
        first = state.memory or norm or 1.0
        forcing = min(LARGEST_FORCING, sqrt(norm / first))
        direction = conjugate_gradients(
            quadratic, state.gradient, z, precondition, forcing, self.max_products
        )
        return descend(objective, replace(state, memory=first), direction)[0]


def conjugate_gradients(
    quadratic: Any,
    gradient: Array,
    z: Array,
    precondition: Callable[[Array], Array],
    forcing: float,
    max_products: int,
) -> Array:
    """An approximate solution p of H p = -gradient.

    Parameters
    ----------
    quadratic : Objective
        Its gradient at v is H v and its value v'Hv/2.
    gradient, z : array (n_params,)
        The gradient, and the same preconditioned.
    precondition : callable
        Residual -> preconditioned residual.
    forcing : float
        Relative residual at which to stop.
    max_products : int
        Most products.

    Returns
    -------
    array (n_params,)
        A direction of descent.
    """
    backend = quadratic.backend
    p, residual, direction = 0 * gradient, -gradient, -z
    rz = residual @ direction
    rz_0 = 0.0
    for _ in range(max_products):
        half, product = quadratic.value_and_grad(direction)
        step = rz / (2 * backend.xp.astype(half, rz.dtype))
        following = residual - step * product
        z = precondition(following)
        rz_next = following @ z
        now, was, curvature = backend.scalars(rz_next, rz, half)
        rz_0 = rz_0 or was
        if not curvature > 0 or not now >= 0:  # flat to rounding, or overflow
            return p if rz_0 != was else direction
        p, residual = p + step * direction, following
        if now <= forcing * forcing * rz_0:
            break
        direction = z + (rz_next / rz) * direction
        rz = rz_next
    return p
