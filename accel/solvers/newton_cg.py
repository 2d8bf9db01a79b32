"""Newton's method by conjugate gradients: products with the Hessian, never the matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar

import numpy as np

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
    pass over X; whether to go on is one transfer a product.
    """

    max_products: int = 250
    may_condition: ClassVar[bool] = True

    def expected_passes(self, max_iter: int) -> int:
        """Between 15 and 100 on most data."""
        return min(3 * max_iter, 50)

    def init(self, objective: Any, params: Array) -> State:
        """Objective and gradient at the start; the first step remembers the gradient's norm."""
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
        relative = float(forcing(norm, first))
        direction = conjugate_gradients(
            quadratic, state.gradient, z, precondition, relative, self.max_products
        )
        state = replace(state, memory=first)
        following = descend(objective, state, direction)[0]
        if following.stalled and norm > 0:  # a Hessian too flat for conjugate gradients
            along = descend(objective, replace(state, n_evals=following.n_evals), -z / norm)[0]
            following = replace(along, promise=following.promise) if along.stalled else along
        return following


def forcing(norm: Any, first: Any) -> Any:
    """Relative residual to which a Newton system is solved; numbers or NumPy arrays."""
    return np.minimum(LARGEST_FORCING, np.sqrt(norm / first))


def conjugate_gradients(
    quadratic: Any,
    gradient: Array,
    z: Array,
    precondition: Callable[[Array], Array],
    relative: float | Array,
    max_products: int,
    narrow: Callable[[Any, Any], Any] = lambda quadratic, going: quadratic,  # noqa: ARG005
) -> Array:
    """An approximate solution p of H p = -gradient, for one problem or for each of a stack.

    Parameters
    ----------
    quadratic : Standardised or the like
        Its gradient at v is H v and its value v'Hv/2.
    gradient, z : array (..., n_params)
        The gradient, and the same preconditioned.
    precondition : callable
        Residual -> preconditioned residual.
    relative : float or array (...)
        Relative residual at which to stop.
    max_products : int
        Most products.
    narrow : callable, optional
        (quadratic, going) -> quadratic without the problems that are not going, a NumPy array
        (...) of bool.

    Returns
    -------
    array (..., n_params)
        Directions of descent.

    Notes
    -----
    A problem that is done keeps its p: its steps are zero from then on. What goes on is one
    transfer a product.
    """
    backend, xp = quadratic.backend, quadratic.backend.xp
    p, residual, direction = 0 * gradient, -gradient, -z
    rz = xp.sum(residual * direction, axis=-1)
    goal, going = relative * relative * rz, rz == rz
    fallback = direction  # for a first product that is flat to rounding, or overflows
    for _ in range(max_products):
        half, product = quadratic.value_and_grad(direction)
        step = rz / (2 * xp.astype(half, rz.dtype))
        step = xp.where(going & (half > 0), step, xp.zeros_like(step))[..., None]
        residual = residual - step * product
        z = precondition(residual)
        rz_next = xp.sum(residual * z, axis=-1)
        sound = going & (half > 0) & (rz_next >= 0)
        p = xp.where(sound[..., None], p + step * direction, fallback)
        going, fallback = sound & (rz_next > goal), p
        still = backend.to_numpy(going)
        if not still.any():
            break
        direction = xp.where(
            going[..., None], z + (rz_next / rz)[..., None] * direction, xp.zeros_like(direction)
        )
        rz, quadratic = rz_next, narrow(quadratic, still)
    return p
