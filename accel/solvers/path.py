"""A regularisation path: many C values, under several weightings of the rows, over one X."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.backends.interchange import namespace
from accel.conditioning import coordinates, look, suited
from accel.conditioning.standardised import Coordinates
from accel.objective import Objective
from accel.penalties import alpha_of
from accel.solvers.exactly import UNDECIDED, ended_in_float64
from accel.solvers.loop import minimize
from accel.solvers.planning import Plan, plan
from accel.solvers.status import Status
from accel.solvers.together import Solutions, minimize_together
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
    values, errors, gaps : ndarray (n_Cs, n_weightings)
        Objectives, max|gradient| and duality gaps there.
    status : ndarray (n_Cs, n_weightings) of Status
        How each ended.
    n_iter : ndarray (n_Cs, n_weightings)
        Updates of each.
    """

    params: Array
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    gaps: NDArray[np.float64]
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
    zero = backend.asarray(np.zeros((n_folds, whole.network.n_params)), dtype=weights.dtype)
    with np.errstate(all="ignore"):
        if whole.network.bias:
            whole, zero, _ = suited(whole, zero, look(whole))
            weights = xp.astype(weights, whole.dtype)
        here = coordinates(whole, weights.dtype)
    order = np.argsort(Cs, kind="stable")
    solved: list[tuple[float, Array]] = []  # C and its (n_weightings, n_params)
    parts = []
    for chunk in _chunks(order, max(1, WIDE // (n_folds * whole.network.n_out))):
        starts = xp.concat([_predicted(solved, float(one), zero) for one in Cs[chunk]])
        alphas = alpha_of(Cs[chunk, None], totals)
        which = np.tile(np.arange(n_folds), len(chunk))
        stack = Stack(whole, weights, which, alphas.reshape(-1))
        found = _solved(stack, here, starts, tol=tol, max_iter=max_iter)
        params = xp.reshape(found.params, (len(chunk), n_folds, -1))
        solved += [(float(C), params[k, :, :]) for k, C in enumerate(Cs[chunk])]
        parts.append(found)
    back = np.argsort(order)

    def in_order(values: Any) -> Any:
        return np.concatenate(values).reshape(len(Cs), n_folds)[back]

    return Path(
        params=whole.expand(xp.stack([solved[k][1] for k in back])),
        values=in_order([part.values for part in parts]),
        errors=in_order([part.errors for part in parts]),
        gaps=in_order([part.gaps for part in parts]),
        status=in_order([np.array(part.status, dtype=object) for part in parts]),
        n_iter=in_order([part.n_iter for part in parts]),
    )


def joined(paths: list[Path]) -> Path:
    """Paths over the same weightings, one after the other."""
    xp = namespace(paths[0].params)
    names = ("values", "errors", "gaps", "status", "n_iter")
    rest = {name: np.concatenate([getattr(path, name) for path in paths]) for name in names}
    dtype = max((path.params.dtype for path in paths), key=str)
    params = xp.concat([xp.astype(path.params, dtype) for path in paths])
    return Path(params=params, **rest)


def solve_l1_path(
    whole: Objective,
    weights: Array,
    totals: NDArray[np.float64],
    Cs: NDArray[np.float64],
    l1_ratio: float,
    *,
    tol: float,
    max_iter: int,
) -> Path:
    r"""The same with a share of the l1 norm in the penalty, one problem after the other.

    Parameters
    ----------
    whole, weights, totals, Cs : object
        As in `solve_path`.
    l1_ratio : float
        The share, above 0.
    tol, max_iter : object
        As in `solve_path`.

    Returns
    -------
    Path
        In the order of Cs.

    Notes
    -----
    Of each weighting from small C, where most coefficients are zero, to large, each from the one
    before: the working set of one is nearly that of the next.
    """
    xp, backend = whole.backend.xp, whole.backend
    shape = len(Cs), len(totals)
    numbers = {name: np.zeros(shape) for name in ("values", "errors", "gaps")}
    status, n_iter = np.empty(shape, dtype=object), np.zeros(shape, dtype=np.int32)
    found: list[list[Any]] = [[None] * shape[1] for _ in Cs]
    zero = backend.asarray(np.zeros(whole.network.n_params), dtype=whole.dtype)

    def planned(objective: Objective, start: Array) -> Plan:
        name = "auto" if objective.l1 is None else "orthant"
        return plan(objective, start, name, learning_rate=1.0, max_iter=max_iter)

    for fold, total in enumerate(totals):
        start = zero
        for k in np.argsort(Cs, kind="stable"):
            strength = float(alpha_of(Cs[k], total))
            penalties = (1 - l1_ratio) * strength, l1_ratio * strength
            objective = whole.weighing(weights[:, fold]).penalised(*penalties)
            way = planned(objective, start)
            one = minimize(way.problem, way.start, way.solver, tol=tol, max_iter=max_iter)
            if one.status is Status.INTERRUPTED:
                raise KeyboardInterrupt
            way, one, _ = ended_in_float64(objective, way, one, planned, tol=tol, max_iter=max_iter)
            users = way.problem.expand(one.params)
            start = xp.astype(users, whole.dtype)
            found[k][fold] = start
            status[k, fold], n_iter[k, fold] = one.status, one.n_iter
            for name, number in (("values", one.value), ("errors", one.error), ("gaps", one.gap)):
                numbers[name][k, fold] = number
    params = xp.stack([xp.stack(row) for row in found])
    return Path(params=params, status=status, n_iter=n_iter, **numbers)


def _solved(
    stack: Stack, here: Coordinates, starts: Array, *, tol: float, max_iter: int
) -> Solutions:
    """The solutions of a stack, in its coordinates; in float64 what float32 could not decide."""
    xp, backend = stack.backend.xp, stack.backend
    problem = here.of(stack, stack, starts)
    found = minimize_together(problem, problem.start, tol=tol, max_iter=max_iter)
    found = replace(found, params=problem.leave(found.params))
    undecided = np.array([one in UNDECIDED for one in found.status])
    if found.params.dtype == xp.float64 or not undecided.any():
        return found
    places = np.flatnonzero(undecided)
    exact = Stack(
        stack.whole.in_float64("value and gradient"),
        xp.astype(stack.weights, xp.float64),
        stack.which[places],
        stack.alphas[places],
    )
    begin = xp.astype(xp.take(found.params, backend.asarray(places), axis=0), xp.float64)
    again = _solved(exact, coordinates(exact.whole, xp.float64), begin, tol=tol, max_iter=max_iter)
    params = backend.to_numpy(found.params)
    params[places] = backend.to_numpy(again.params)
    status = list(found.status)
    for place, one in zip(places, again.status, strict=True):
        status[place] = one
    for name in ("values", "errors", "gaps"):
        getattr(found, name)[places] = getattr(again, name)
    found.n_iter[places] += again.n_iter
    return replace(found, params=backend.asarray(params), status=status)


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
