"""A regularisation path: many C values, under several weightings of the rows, over one X."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.conditioning import coordinates
from accel.objective import Objective
from accel.penalties import alpha_of
from accel.solvers.together import minimize_together
from accel.stack import Stack

Array = Any
# Columns of raw predictions from which on a pass is limited by arithmetic and no longer by reading
# X: to stack more saves nothing, while a start from the C before saves products.
WIDE = 64
# A parabola is drawn through three C values whose steps differ by no more than this factor.
EVEN = 2.0


@dataclass(frozen=True)
class Path:
    """The solutions, C by C and weighting by weighting.

    Parameters
    ----------
    params : array (n_Cs, n_weightings, n_params)
        In the user's coordinates, on the device.
    values, errors : ndarray (n_Cs, n_weightings)
        Objectives and max|gradient| there.
    status : ndarray (n_Cs, n_weightings) of Status
        How each ended.
    n_iter : ndarray (n_Cs, n_weightings)
        Updates of each.
    """

    params: Array
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    status: NDArray[Any]
    n_iter: NDArray[np.int32]


def solve_path(
    whole: Objective,
    weights: Array,
    totals: NDArray[np.float64],
    Cs: NDArray[np.float64],
    *,
    tol: float,
    max_iter: int,
) -> Path:
    r"""Minimise for every C and every weighting, with alpha = 1 / (C total).

    Parameters
    ----------
    whole : Objective
        Of a linear model: X, Y, loss and network of all; see `accel.stack.Stack`.
    weights : array (n_samples, n_weightings)
        Sample weights, each column of sum one, on the device.
    totals : ndarray (n_weightings,)
        Sum of each column before it was divided by it.
    Cs : ndarray (n_Cs,)
        Inverse strengths of the penalty, in any order; `inf` for none.
    tol : float
        Largest max|gradient| of each problem, in the user's coordinates.
    max_iter : int
        Most updates of each problem.

    Returns
    -------
    Path
        In the order of Cs.

    Notes
    -----
    C values are taken from small to large, as many at a time as make a pass `WIDE`. The next ones
    start where the last three of the same weighting point to, on a parabola in log C, at most as
    far ahead as the last two are apart.

    A weighting never starts from another one's solution: with a loose tolerance a fold's model
    would keep what it learned from the rows held out.
    """
    backend, xp, n_folds = whole.backend, whole.backend.xp, len(totals)
    here = coordinates(whole, weights.dtype)
    zero = backend.asarray(np.zeros((n_folds, whole.network.n_params)), dtype=weights.dtype)
    order = np.argsort(Cs, kind="stable")
    solved: list[tuple[float, Array]] = []  # C and its (n_weightings, n_params)
    parts = []
    for chunk in _chunks(order, max(1, WIDE // (n_folds * whole.network.n_out))):
        starts = xp.concat([_predicted(solved, float(one), zero) for one in Cs[chunk]])
        alphas = alpha_of(Cs[chunk, None], totals)
        which = np.tile(np.arange(n_folds), len(chunk))
        stack = Stack(whole, weights, which, alphas.reshape(-1))
        problem = here.of(stack, stack, starts)
        found = minimize_together(problem, problem.start, tol=tol, max_iter=max_iter)
        params = xp.reshape(problem.expand(found.params), (len(chunk), n_folds, -1))
        solved += [(float(C), params[k, :, :]) for k, C in enumerate(Cs[chunk])]
        parts.append(found)
    back = np.argsort(order)

    def joined(values: Any) -> Any:
        return np.concatenate(values).reshape(len(Cs), n_folds)[back]

    return Path(
        params=xp.stack([solved[k][1] for k in back]),
        values=joined([part.values for part in parts]),
        errors=joined([part.errors for part in parts]),
        status=joined([np.array(part.status, dtype=object) for part in parts]),
        n_iter=joined([part.n_iter for part in parts]),
    )


def _chunks(order: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _predicted(solved: list[tuple[float, Array]], C: float, zero: Array) -> Array:
    """Where the solutions at the last C values point to."""
    if not solved:
        return zero
    known = [(other, params) for other, params in solved[-3:] if np.isfinite(other)]
    if len(known) < 2 or not np.isfinite(C):
        return solved[-1][1]
    t = np.log([other for other, _ in known])
    steps = np.diff(t)
    if len(steps) == 2 and not EVEN * min(steps) >= max(steps):  # noise would be blown up
        known, t, steps = known[1:], t[1:], steps[1:]
    if not steps[-1] > 0:
        return solved[-1][1]
    there = min(np.log(C), t[-1] + steps[-1])
    weights = [
        np.prod([(there - other) / (own - other) for other in t if other != own]) for own in t
    ]
    return sum(float(w) * params for w, (_, params) in zip(weights, known, strict=True))
