"""Penalties of parameters: their strengths, and what is stationary under them."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
LARGEST_ALPHA = 1e30


def alpha_of(C: Any, total: Any) -> Any:
    """scikit-learn's C as the penalty on the mean loss, 1 / (C sum of weights); numbers or arrays.

    Parameters
    ----------
    C : float or ndarray
        Inverse strength; `inf` gives 0.
    total : float or ndarray
        Sum of the sample weights.

    Returns
    -------
    float or ndarray
        At most `LARGEST_ALPHA`, where the coefficients are zero in any dtype.
    """
    with np.errstate(divide="ignore", over="ignore"):
        alpha = np.divide(1.0, np.multiply(C, total))
    return np.minimum(alpha, LARGEST_ALPHA)


def minimum_norm_subgradient(params: Array, gradient: Array, l1: Array, *, xp: Any) -> Array:
    r"""The subgradient of least norm of f + sum of l1 |params|: zero exactly at the minimum.

    .. math:: v_j = g_j + \lambda_j \operatorname{sign}(w_j) \; (w_j \ne 0), \qquad
              v_j = \operatorname{sign}(g_j) \max(|g_j| - \lambda_j, 0) \; (w_j = 0)

    Parameters
    ----------
    params, gradient, l1 : array (n_params,)
        Where, the gradient of the smooth part there, and the strength for each parameter.
    xp : module
        Array namespace of all three.

    Returns
    -------
    array (n_params,)
        v.
    """
    excess = xp.abs(gradient) - l1
    at_zero = xp.sign(gradient) * xp.where(excess > 0, excess, xp.zeros_like(excess))
    return xp.where(params != 0, gradient + l1 * xp.sign(params), at_zero)
