"""The regularisation path: coefficients for every C, solved together on one copy of X."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from accel.backends import backend_for
from accel.backends.interchange import device_of, to_host
from accel.estimators.arguments import check_count, check_flag, check_input_scale, check_number
from accel.estimators.checks import check_targets, check_X
from accel.estimators.linear import coefficients, linear_objective
from accel.estimators.options import check_l1_ratio
from accel.objective import Objective
from accel.solvers import Status
from accel.solvers.path import Path, solve_l1_path, solve_path
from accel.solvers.status import UNFINISHED

Array = Any


@dataclass(frozen=True)
class LogisticPath:
    """Coefficients for every C, each with its certificate, on the host.

    Parameters
    ----------
    Cs : ndarray (n_Cs,)
        Inverse strengths of the penalty, in the order they were given.
    classes : ndarray (n_classes,)
        Labels, sorted.
    coef : ndarray (n_Cs, 1 or n_classes, n_features)
        W transposed, in the dtype of X (float32 or float64).
    intercept : ndarray (n_Cs, 1 or n_classes)
        b.
    objective, gradient_norm, gap : ndarray (n_Cs,)
        Objective, max|gradient| and duality gap at the result.
    status : ndarray (n_Cs,) of Status
        How each ended; its value is a sentence that says what to do.
    n_iter : ndarray (n_Cs,)
        Updates of each.
    n_passes : int
        Reads of X for all of them.
    """

    Cs: NDArray[np.float64]
    classes: Any
    coef: Any
    intercept: Any
    objective: NDArray[np.float64]
    gradient_norm: NDArray[np.float64]
    gap: NDArray[np.float64]
    status: Any
    n_iter: NDArray[np.int32]
    n_passes: int


def logistic_path(
    X: Any,
    y: Any,
    Cs: int | Sequence[float] = 10,
    *,
    l1_ratio: float = 0.0,
    sample_weight: Any = None,
    class_weight: Any = None,
    fit_intercept: bool = True,
    tol: float = 1e-4,
    max_iter: int = 1000,
    input_scale: float = 1.0,
    backend: str = "auto",
) -> LogisticPath:
    """Logistic regression for many C values, solved together.

    The objective of each is that of `LogisticRegression`; one read of X serves all that are solved
    at a time. With an l1 part each starts from the one before.

    Parameters
    ----------
    X : array-like (n_samples, n_features)
        As `LogisticRegression.fit` takes it. Not modified.
    y : array-like (n_samples,)
        Labels of any type.
    Cs : int or list of float, default=10
        Inverse strengths of the penalty, `inf` for none; an int is that many between 1e-4 and 1e4,
        evenly spaced in their logarithms.
    l1_ratio : float, default=0.0
        Share of the l1 norm in the penalty.
    sample_weight : array-like (n_samples,), optional
        Non-negative weights.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into sample_weight.
    fit_intercept : bool, default=True
        Whether to learn b.
    tol : float, default=1e-4
        Largest max|gradient| of each.
    max_iter : int, default=1000
        Most updates of each.
    input_scale : float, default=1.0
        Factor of X, applied to the coefficients instead of the data.
    backend : str, default="auto"
        "auto", "numpy", "cupy" or "cupy:N", see `accel.get_backend`.

    Returns
    -------
    LogisticPath
        Coefficients and their certificates.

    Raises
    ------
    ValueError
        If an argument is out of range, has the wrong shape or holds NaN.
    accel.BackendUnavailable
        If a backend was required that cannot be used.
    """
    grid, ratio = check_Cs(Cs), check_l1_ratio("l1_ratio", l1_ratio)
    tol, max_iter = check_number("tol", tol, at_least=0), check_count("max_iter", max_iter)
    with device_of(X):
        X = check_X(BaseEstimator(), X, fitting=True)
    targets = check_targets(y, X.shape[0], sample_weight, class_weight)
    opened = backend_for(backend, X)
    with opened.context():
        whole = linear_objective(
            opened.asarray(X),
            targets,
            opened,
            fit_intercept=check_flag("fit_intercept", fit_intercept),
            input_scale=check_input_scale(input_scale),
        )
        path = solve_weightings(
            whole, targets.weight[:, None], grid, tol=tol, max_iter=max_iter, l1_ratio=ratio
        )
        coef, intercept = coefficients(whole.network, opened.to_numpy(path.params)[:, 0, :])
    warn_of_missed(path.status[:, 0], np.max(path.errors), tol, stacklevel=3)
    return LogisticPath(
        Cs=grid,
        classes=targets.classes,
        coef=coef,
        intercept=intercept,
        objective=path.values[:, 0],
        gradient_norm=path.errors[:, 0],
        gap=path.gaps[:, 0],
        status=path.status[:, 0],
        n_iter=path.n_iter[:, 0],
        n_passes=sum(whole.passes.values()),
    )


def warn_of_missed(ends: Iterable[Status], largest: float, tol: float, *, stacklevel: int) -> None:
    """Say aloud how many of some fits did not reach the optimum, if any."""
    ends = list(ends)
    missed = [end for end in ends if end in UNFINISHED]
    if missed:
        warnings.warn(
            f"{len(missed)} of {len(ends)} fits did not reach max|gradient| {tol:.3g} (the "
            f"largest is {largest:.3g}), the first with {missed[0].name}: {missed[0].value}",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )


def check_Cs(Cs: Any) -> NDArray[np.float64]:
    """The C values: a list of them, or as many as asked for between 1e-4 and 1e4."""
    if isinstance(Cs, Integral) and not isinstance(Cs, bool):
        if Cs < 1:
            raise ValueError(f"Cs={Cs!r} must be at least 1, or a list of C values.")
        return np.logspace(-4, 4, int(Cs))
    values = to_host(Cs)
    if isinstance(values, str | bool) or not np.iterable(values) or not len(list(values)):
        raise ValueError(f"Cs={Cs!r} must be an integer or a list of C values.")
    return np.array([check_number(f"Cs[{i}]", C, above=0) for i, C in enumerate(values)])


def solve_weightings(
    whole: Objective,
    weights: NDArray[np.float64],
    Cs: NDArray[np.float64],
    *,
    tol: float,
    max_iter: int,
    l1_ratio: float = 0.0,
) -> Path:
    """`solve_path` for columns of weights (n_samples, n_weightings) of any sum, on the host."""
    totals = weights.sum(axis=0)
    on_device = whole.backend.asarray(weights / totals, dtype=whole.dtype)
    if l1_ratio:
        return solve_l1_path(whole, on_device, totals, Cs, l1_ratio, tol=tol, max_iter=max_iter)
    return solve_path(whole, on_device, totals, Cs, tol=tol, max_iter=max_iter)
