"""A quadratic with an l1 penalty, minimised exactly on the host: signs, and a linear system."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
# Sweeps over the coordinates before, and the slope, of the largest, at which they end: most signs
# are right then, and each sweep costs less than a system.
MOST_SWEEPS, ROUGHLY = 100, 1e-6
OPTIMAL = 1e-12  # of the largest slope: what is left of the optimality conditions by rounding
# Steps in all, and operations that they may take beyond the first of these: where they end, the
# lowest point so far is a step of proximal Newton as well.
MOST_STEPS, MOST_FLOPS = 100, 3e8


def signed_minimum(
    H: Vector, g: Vector, start: Vector, strengths: Vector, jitter: float = 1e-11
) -> Vector:
    r"""The w of least quadratic model and l1 norm.

    .. math:: g^\top (w - w_0) + \tfrac12 (w - w_0)^\top H (w - w_0) + \sum_j \lambda_j |w_j|

    Parameters
    ----------
    H : ndarray (m, m)
        Positive semidefinite.
    g, start, strengths : ndarray (m,)
        Slope at :math:`w_0`, that point, and :math:`\lambda`; zero where nothing is penalised.
    jitter : float, default=1e-11
        Added to the diagonal, of which it is a part: a singular H has a factor then, repeated
        columns share their weight, and the rounding of g is not blown up.

    Returns
    -------
    ndarray (m,)
        w, with exact zeros.

    Notes
    -----
    Feature-sign search, Lee, Battle, Raina & Ng, NIPS 2006, Algorithm 1: on a guess of the signs
    the minimum is one linear system; the way there ends where a sign would change, at the lowest
    such point; a zero joins where its slope exceeds its strength. Each step lowers the quadratic,
    so no set of signs comes twice. It starts where a descent by coordinates ends, and takes over
    where that crawls: columns that nearly repeat each other cost a few systems more.
    """
    diagonal = np.diagonal(H)
    H = H + np.diag(jitter * np.where(diagonal > 0, diagonal, 1.0))
    smooth = strengths == 0
    least = OPTIMAL * max(float(np.abs(g).max(initial=0.0)), 1e-300)
    w = _by_coordinates(H, g, start, strengths)
    signs = np.sign(w)
    m = len(w)
    for _ in range(max(MOST_STEPS, min(10 * m, int(MOST_FLOPS / max(m, 1) ** 3)))):
        slope = g + H @ (w - start)
        active = smooth | (signs != 0)
        residual = slope + strengths * signs
        at_rest = not active.any() or float(np.abs(residual[active]).max()) <= least
        if at_rest:
            excess = np.where(active, 0.0, np.abs(slope) - strengths)
            joining = excess > least
            if not joining.any():
                break
            # the worst half join together: one at a time is safe, and slow from zero
            joining &= excess >= 0.5 * excess.max()
            signs = np.where(joining, -np.sign(slope), signs)
            active = active | joining
        w, signs, moved = _step(H, g, start, strengths, w, signs, active)
        if not moved:
            break
    return w


def _by_coordinates(H: Vector, g: Vector, start: Vector, strengths: Vector) -> Vector:
    """Where a descent by coordinates comes to in some sweeps: mostly to the right signs."""
    w, slope, diagonal = start.copy(), g.copy(), np.diagonal(H)
    least = ROUGHLY * float(np.abs(g).max(initial=0.0))
    everything = np.flatnonzero(diagonal > 0)
    places, is_whole = everything, True
    for _ in range(MOST_SWEEPS):
        largest = 0.0
        for j in places:
            drive = diagonal[j] * w[j] - slope[j]
            size = abs(drive) - strengths[j]
            target = 0.0 if size <= 0 else np.copysign(size, drive) / diagonal[j]
            change = target - w[j]
            if change:
                w[j] = target
                slope += change * H[j]
                largest = max(largest, abs(change) * diagonal[j])
        if largest > least:  # only those at work, until they rest
            places, is_whole = everything[w[everything] != 0], False
        elif is_whole:
            break
        else:
            places, is_whole = everything, True
    return w


def _step(
    H: Vector,
    g: Vector,
    start: Vector,
    strengths: Vector,
    w: Vector,
    signs: Vector,
    active: NDArray[np.bool_],
) -> tuple[Vector, Vector, bool]:
    """To the minimum on these signs, or the lowest place on the way where one of them changes."""
    smooth_slope = g + H @ (w - start)
    signs = signs.copy()
    while True:
        places = np.flatnonzero(active)
        own, lambdas = w[places], strengths[places]
        inner = H[np.ix_(places, places)]
        direction = -_solved(inner, smooth_slope[places] + lambdas * signs[places])
        # of those that join together, what is drawn against its sign stays at zero
        against = (own == 0) & (lambdas > 0) & (direction * signs[places] < 0)
        if not against.any():
            break
        signs[places[against]] = 0
        active = active.copy()
        active[places[against]] = False
    crossing = (own * direction < 0) & (lambdas > 0)
    lengths = np.where(crossing, -own / np.where(crossing, direction, 1.0), np.inf)
    tried = np.unique(np.append(lengths[lengths < 1.0], 1.0))
    there = own + tried[:, None] * direction
    change = (np.abs(there) - np.abs(own)) @ lambdas
    slope, curvature = smooth_slope[places] @ direction, direction @ inner @ direction
    values = tried * slope + 0.5 * tried**2 * curvature + change
    best = int(np.argmin(values))
    if not values[best] < 0:
        return w, signs, False
    moved = np.where(lengths == tried[best], 0.0, there[best])
    w = w.copy()
    w[places] = moved
    signs[places] = np.where(lambdas > 0, np.sign(moved), 0.0)
    return w, signs, True


def _solved(H: Vector, slope: Vector) -> Vector:
    """H^-1 slope; by least squares where H is singular."""
    try:
        return np.asarray(np.linalg.solve(H, slope))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(H, slope)[0])
