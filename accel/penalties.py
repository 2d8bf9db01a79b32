"""Penalties of parameters: their strengths, what is stationary under them, what they bound."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
LARGEST_ALPHA = 1e30
TINY = 1e-300


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


def duality_gap(
    params: Array, value: Array, gradient: Array, ridge: Array, l1: Array | None, *, xp: Any
) -> Array:
    r"""The most by which a convex loss of at least zero, with its penalties, can still fall.

    With :math:`u = \rho w - g` the negative gradient of the loss, which is a dual point,

    .. math:: f - f^* \le \sum_j \frac{(g_j)^2}{2 \rho_j} \quad (\lambda = 0), \qquad
              \sum_j \lambda_j |w_j| + \frac{\rho_j}{2} w_j^2
              + \frac{\max(|u_j| - \lambda_j, 0)^2}{2 \rho_j} - u_j w_j

    and where only :math:`\lambda` holds w, u is first shrunk into the box
    :math:`|u_j| \le \lambda_j`.

    Parameters
    ----------
    params : array (..., n_params)
        Where.
    value : array (...) or float
        The objective there, penalties included, float64.
    gradient : array (..., n_params)
        Of the smooth part there.
    ridge : array (..., n_params)
        :math:`\rho`.
    l1 : array (n_params,) or None
        :math:`\lambda`; None for zero.
    xp : module
        Array namespace.

    Returns
    -------
    array (...)
        Float64; infinite where nothing is penalised. Larger than the value itself, it says nothing.

    Notes
    -----
    Of parameters that no penalty holds, the intercepts, the gain is estimated. The loss at a dual
    point :math:`\theta u` is bounded by convexity, so no pass over the data is needed: Boyd &
    Vandenberghe, Convex Optimization, section 5.5.1; Massias, Gramfort & Salmon, ICML 2018.
    """
    w, g, ridge = (xp.astype(array, xp.float64) for array in (params, gradient, ridge))
    held = ridge > 0
    over = xp.where(held, ridge, xp.ones_like(ridge))
    strength = xp.zeros_like(ridge) if l1 is None else xp.astype(l1, xp.float64)
    boxed = (strength > 0) & ~held
    penalised = strength * xp.abs(w) + ridge * w * w / 2
    loss = value - xp.sum(penalised, axis=-1)
    of_free = _of_free(g, ~(held | boxed), loss, xp=xp)
    if l1 is None:
        found = xp.sum(xp.where(held, g * g / over, xp.zeros_like(g)), axis=-1) / 2
        return xp.where(xp.any(held, axis=-1), found + of_free, xp.full_like(found, xp.inf))
    u = ridge * w - g
    size = xp.abs(u)
    ratio = strength / xp.where(size > 0, size, over)
    inside = xp.where(boxed & (size > strength), ratio, xp.ones_like(ratio))
    shrink = xp.min(inside, axis=-1)
    excess = shrink * size - strength
    conjugate = xp.where(held & (excess > 0), excess * excess / (2 * over), xp.zeros_like(u))
    of_penalty = penalised + conjugate - xp.where(held | boxed, shrink * u * w, xp.zeros_like(u))
    of_penalty = xp.sum(of_penalty, axis=-1)
    of_penalty = xp.where(of_penalty > 0, of_penalty, xp.zeros_like(of_penalty))  # less by rounding
    return (1 - shrink) * loss + of_penalty + of_free


def _of_free(gradient: Array, free: Array, loss: Array, *, xp: Any) -> Array:
    r"""What the intercepts, which no penalty bounds, may still gain: :math:`g^2 / 2 h`, about.

    The curvature h of a logistic loss along an intercept is at most a fourth, and falls with the
    loss and with the number of classes: taken for the smaller of 1 and the loss, over 4 K.
    """
    count = xp.sum(xp.astype(free, xp.float64), axis=-1)
    square = xp.sum(xp.where(free, gradient * gradient, xp.zeros_like(gradient)), axis=-1)
    capped = xp.where(loss < 1, loss, xp.ones_like(loss))
    return 2 * count * square / xp.where(capped > TINY, capped, xp.full_like(capped, TINY))
