"""The end of a fit: in float64 where float32 cannot reach it, in float32 where that holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from accel.objective import Objective
from accel.solvers.loop import Progress, Solution, minimize
from accel.solvers.planning import Plan
from accel.solvers.status import Status

Array = Any
# Endings in float32 that say of its rounding only: the objective may be far from its minimum.
UNDECIDED = (Status.STALLED, Status.ROUNDING)
WORSE = 2.0  # max|gradient| of rounded coefficients may be so many times that of the result, or tol


def ended_in_float64(
    objective: Objective,
    way: Plan,
    solution: Solution,
    planned: Callable[[Objective, Array], Plan],
    *,
    tol: float,
    max_iter: int,
    callback: Callable[[Progress], Any] | None = None,
) -> tuple[Plan, Solution, tuple[str, ...]]:
    """The fit gone on with in float64 arithmetic, where that of float32 lowers nothing any more.

    Parameters
    ----------
    objective : Objective
        In the user's coordinates.
    way : Plan
        How it was solved.
    solution : Solution
        To what end.
    planned : callable
        (objective, start in the user's coordinates) -> plan.
    tol, max_iter, callback : object
        Of `minimize`.

    Returns
    -------
    way : Plan
        Of the last part.
    solution : Solution
        With the updates of both parts.
    reasons : tuple of str
        One sentence where there are two parts.
    """
    xp = objective.backend.xp
    if way.objective.dtype == xp.float64 or solution.status not in UNDECIDED:
        return way, solution, ()
    start = xp.astype(way.problem.expand(solution.params), xp.float64)
    again = planned(objective.in_float64("value and gradient"), start)

    def shown(progress: Progress) -> Any:
        n_iter = solution.n_iter + progress.n_iter
        return None if callback is None else callback(replace(progress, n_iter=n_iter))

    rest = minimize(
        again.problem,
        again.start,
        again.solver,
        tol=tol,
        max_iter=max_iter - solution.n_iter,
        callback=shown,
    )
    joined = replace(
        rest,
        n_iter=solution.n_iter + rest.n_iter,
        n_evals=solution.n_evals + rest.n_evals,
        history=(*solution.history, *rest.history),
        resumed=solution.resumed,
    )
    why = f"Arithmetic in float64 after {solution.n_iter} updates: float32 found no lower value."
    return again, joined, (why,)


def held(
    way: Plan, solution: Solution, dtype: Any, tol: float
) -> tuple[np.ndarray[Any, Any], Solution, tuple[str, ...]]:
    """Parameters on the host in this dtype, if it holds what was found; else in float64.

    Parameters
    ----------
    way : Plan
        How it was solved.
    solution : Solution
        To what end.
    dtype : dtype
        That of NumPy in which the coefficients are wanted.
    tol : float
        Of the fit.

    Returns
    -------
    params : ndarray (n_params,)
        In the user's coordinates.
    solution : Solution
        Its certificate is that of what is held.
    reasons : tuple of str
        One sentence where it is held in float64 against expectation.
    """
    backend, xp = way.problem.backend, way.problem.backend.xp
    found = backend.to_numpy(way.problem.expand(solution.params))
    if found.dtype == dtype:
        return found, solution, ()
    with np.errstate(over="ignore"):
        rounded = found.astype(dtype)
    one = way.objective.in_float64()
    params = one.enter(backend.asarray(rounded, dtype=xp.float64))
    with np.errstate(all="ignore"):
        numbers = one.certify(params, *one.value_and_grad(params))
    value, error, gap = backend.scalars(*numbers)
    if error <= max(tol, WORSE * solution.error):
        return rounded, replace(solution, value=value, error=error, gap=min(gap, value)), ()
    return found, solution, ("coef_ and intercept_ in float64: float32 does not hold this model.",)
