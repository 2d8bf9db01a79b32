"""What a sample of the rows tells a fit in which every read of X is dear: a start and a Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accel.solvers.curvature import metric
from accel.solvers.newton_cg import conjugate_gradients

Array = Any
# Newton systems over the sample are solved to this: its Hessian is farther than that from X's.
RESIDUAL = 0.03
MAX_PRODUCTS = 100


def sample_newton(problem: Any, params: Array) -> Callable[[Array], Array]:
    """Gradient -> H^-1 gradient, with H the Hessian over the sample, by conjugate gradients.

    Parameters
    ----------
    problem : Standardised
        Over all rows.
    params : array (n_params,)
        Where H is taken, in its coordinates.

    Returns
    -------
    callable
        What `LBFGS` corrects by what the reads of X show. It reads the sample only.
    """
    model = problem.sample.quadratic(params)
    precondition = metric(model) or (lambda gradient: gradient)

    def inverse(gradient: Array) -> Array:
        return -conjugate_gradients(
            model, gradient, precondition(gradient), precondition, RESIDUAL, MAX_PRODUCTS
        )

    return inverse
