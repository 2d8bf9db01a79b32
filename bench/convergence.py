"""Time against gap: how long a fit takes to come within 1e-3, 1e-6, 1e-8 of the minimum.

Every contender is a black box and is measured as benchopt does it: fresh fits with max_iter 1, 2,
3, 5, 8, ... and the smallest tolerance that it accepts, each a point (seconds, gap). What a solver
prepares before its first step is in every point. scikit-learn's liblinear is missing because it
penalises the intercept: its minimum is another one.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Peer

from accel import LogisticRegression
from accel.benchmark.cases import (
    FitCase,
)
from accel.benchmark.fit_contenders import torch_fit
from accel.benchmark.needs import Absent
from accel.benchmark.rows import fit_row
from accel.benchmark.timer import first_call, rounds_for

GAPS = {"1e-3": 1e-3, "1e-4": 1e-4, "1e-5": 1e-5, "1e-6": 1e-6, "1e-8": 1e-8}
ENOUGH = 1e-9  # the gap at which a contender is done
PATIENCE = 2  # further runs that may bring nothing
PATIENT_TO = 50  # ... from here on: a line search may need the first ones for itself
SHORT_S = 0.3  # runs below are repeated, and their median taken
REPEATS_S = 0.1  # to spend on repeating
LARGEST_HESSIAN = 2000  # parameters beyond which newton-cholesky is not asked

Fit = Callable[[int], Any]  # max_iter -> fitted model


class Point(NamedTuple):
    """One run: what was allowed, its seconds, how far above the minimum it ended, reads of X."""

    max_iter: int
    seconds: float
    gap: float
    passes: int | None


def _estimator(make: Callable[..., Any], case: FitCase, dtype: str = "float64") -> Fit:
    X, y = case.data
    X = np.ascontiguousarray(X, dtype=dtype)
    return lambda max_iter: make(C=case.C, tol=case.tol, max_iter=max_iter).fit(X, y)


def _newton_cholesky(case: FitCase) -> Fit:
    X, y = case.data
    classes = len(np.unique(y))
    if (classes if classes > 2 else 1) * (X.shape[1] + 1) > LARGEST_HESSIAN:
        raise Absent(f"its Hessian has more than {LARGEST_HESSIAN} rows here")
    return _estimator(partial(Peer, solver="newton-cholesky"), case)


def _torch(case: FitCase) -> Fit:
    if find_spec("torch") is None:
        raise Absent("torch is not installed")
    return lambda max_iter: torch_fit(case, device="cpu", max_iter=max_iter)()


CONTENDERS: dict[str, Callable[[FitCase], Fit]] = {
    "accel": partial(_estimator, LogisticRegression),
    "accel float32": partial(_estimator, LogisticRegression, dtype="float32"),
    "scikit-learn lbfgs": partial(_estimator, partial(Peer, solver="lbfgs")),
    "scikit-learn lbfgs float32": partial(
        _estimator, partial(Peer, solver="lbfgs"), dtype="float32"
    ),
    "scikit-learn newton-cg": partial(_estimator, partial(Peer, solver="newton-cg")),
    "scikit-learn newton-cholesky": _newton_cholesky,
    "scikit-learn saga": partial(_estimator, partial(Peer, solver="saga", random_state=0)),
    "PyTorch LBFGS": _torch,
}
DEFAULTS: dict[str, Callable[[], Any]] = {
    "accel": LogisticRegression,
    "scikit-learn lbfgs": Peer,
}


def trajectory(fit: Fit, case: FitCase, budget_s: float) -> list[Point]:
    """Runs of growing max_iter until the gap is small, no longer shrinks, or the time is spent.

    Parameters
    ----------
    fit : callable
        max_iter -> a freshly fitted model.
    case : FitCase
        Judges it.
    budget_s : float
        No run starts later than this.

    Returns
    -------
    list of Point
        In the order of max_iter.
    """
    points: list[Point] = []
    best, idle, max_iter = float("inf"), 0, 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # every run but the last ends at max_iter
        first_call(lambda: fit(1))  # compiles
        started = time.perf_counter()
        while best > ENOUGH and idle < PATIENCE and time.perf_counter() - started < budget_s:
            model, seconds = _timed(partial(fit, max_iter))
            gap = case.gap_of(model.coef_, model.intercept_)
            passes = getattr(model, "n_passes_", None)
            points.append(Point(max_iter, seconds, gap, None if passes is None else int(passes)))
            idle = 0 if gap < best or max_iter < PATIENT_TO else idle + 1
            best = min(best, gap)
            max_iter = -(-3 * max_iter // 2)
    return points


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the median of the seconds of several calls where one is short."""
    found = []
    rounds = 1
    while len(found) < rounds:
        started = time.perf_counter()
        result = call()
        found.append(time.perf_counter() - started)
        if len(found) == 1 and found[0] < SHORT_S:
            rounds = rounds_for(found[0], REPEATS_S)
    return result, float(np.median(found))


def reached(points: list[Any], gap: float) -> Point | None:
    """The fastest run that came at least this close, None where none did.

    Parameters
    ----------
    points : list of Point
        Or the same as lists, as JSON holds them.
    gap : float
        Relative distance to the minimum.

    Returns
    -------
    Point or None
        One of `points`.
    """
    close = [Point(*point) for point in points if point[2] <= gap]
    return min(close, key=lambda point: point.seconds, default=None)


def convergence_row(case: FitCase, contender: str, points: list[Point]) -> dict[str, Any]:
    """The whole trajectory and the seconds to each gap.

    It is invalid where a fit lies below the stored minimum: the data is not the one it is of.
    """
    X, y = case.data
    found = {name: reached(points, gap) for name, gap in GAPS.items()}
    return {
        "kind": "convergence", "case": str(case), "contender": contender,
        "shape": [*X.shape, len(np.unique(y))], "trajectory": [list(point) for point in points],
        "to_gap_s": {name: point and point.seconds for name, point in found.items()},
        "valid": min(point.gap for point in points) > -ENOUGH,
    }  # fmt: skip


def default_row(case: FitCase, contender: str) -> dict[str, Any]:
    """One fit with all default parameters: how it ends, and how often it warns."""
    X, y = case.data

    def call() -> Any:
        return DEFAULTS[contender]().fit(X, y)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, cold_s = first_call(call)
    warned = sum(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, seconds = _timed(call)
    status = getattr(model, "status_", None)
    return fit_row(case, contender, model, cold_s, [seconds]) | {
        "kind": "default", "status": status and status.name, "convergence_warnings": warned,
        "passes": getattr(model, "n_passes_", None),
    }  # fmt: skip
