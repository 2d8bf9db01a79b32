"""Constructor arguments, checked: scikit-learn's in accel's terms, and what it refuses."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import inf
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.estimators.arguments import (
    check_choice,
    check_count,
    check_flag,
    check_folder,
    check_input_scale,
    check_number,
    check_positive,
)
from accel.placement import PLACEMENTS

# What code written for scikit-learn asks for -> the solver here that reaches the same optimum.
NEAREST = {
    "auto": "auto",
    "lbfgs": "lbfgs",
    "newton-cg": "newton-cg",
    "newton-cholesky": "newton-cholesky",
    "gd": "gd",
    "liblinear": "auto",
    "sag": "auto",
    "saga": "auto",
}
TAKES_L1 = ("auto", "liblinear", "saga")
TAKES_ELASTIC_NET = ("auto", "saga")
PENALTIES = {"l1": 1.0, "l2": 0.0}


@dataclass(frozen=True)
class Options:
    """The constructor's numbers after their checks, in accel's terms."""

    C: float
    l1_ratio: float
    fit_intercept: bool
    tol: float
    max_iter: int
    learning_rate: float
    input_scale: float
    placement: str
    checkpoint: Path | None
    checkpoint_every: int


def options_of(estimator: Any) -> Options:
    """The arguments of a LogisticRegression; ValueError names the first one that is wrong."""
    C, l1_ratio = penalty_of(estimator.penalty, estimator.C, estimator.l1_ratio)
    if estimator.callback is not None and not callable(estimator.callback):
        raise ValueError(f"callback={estimator.callback!r} must be a function of a Progress.")
    check_number("intercept_scaling", estimator.intercept_scaling, above=0, finite=True)
    return Options(
        C=C,
        l1_ratio=l1_ratio,
        fit_intercept=check_flag("fit_intercept", estimator.fit_intercept),
        tol=check_number("tol", estimator.tol, at_least=0),
        max_iter=check_count("max_iter", estimator.max_iter),
        learning_rate=check_number("learning_rate", estimator.learning_rate, above=0, finite=True),
        input_scale=check_input_scale(estimator.input_scale),
        placement=check_choice("placement", estimator.placement, PLACEMENTS),
        checkpoint=check_folder("checkpoint", estimator.checkpoint),
        checkpoint_every=check_positive("checkpoint_every", estimator.checkpoint_every),
    )


def check_l1_ratio(name: str, value: Any) -> float:
    """A share of the l1 norm in the penalty."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= float(value) <= 1:
        raise ValueError(f"{name}={value!r} must be a number between 0 (l2) and 1 (l1).")
    return float(value)


def check_l1_ratios(l1_ratios: Any, penalty: Any) -> NDArray[np.float64]:
    """The shares of the l1 norm that a search chooses among, from scikit-learn's two arguments."""
    if l1_ratios is None or penalty != "deprecated":
        own = 0.0 if l1_ratios is None or penalty in ("l1", "l2") else l1_ratios
        if np.ndim(own) == 0:
            return np.array([penalty_of(penalty, 1.0, own)[1]])
        penalty_of(penalty, 1.0, 0.0)
    if np.ndim(l1_ratios) != 1 or not len(l1_ratios):
        raise ValueError(f"l1_ratios={l1_ratios!r} must be a list of numbers from 0 to 1.")
    return np.array([check_l1_ratio(f"l1_ratios[{i}]", one) for i, one in enumerate(l1_ratios)])


def solver_for(estimator: Any, l1_ratio: float, n_classes: int) -> str:
    """The solver of a search's refit: as `solver_of`, without "gd"."""
    names = [name for name in NEAREST if name != "gd"]
    check_choice("solver", estimator.solver, names)
    check_number("intercept_scaling", estimator.intercept_scaling, above=0, finite=True)
    return nearest(estimator, 1.0, float(l1_ratio), n_classes)


def penalty_of(penalty: Any, C: Any, l1_ratio: Any) -> tuple[float, float]:
    """C and l1_ratio, from scikit-learn's three arguments.

    Parameters
    ----------
    penalty : {"deprecated", "l1", "l2", "elasticnet", None}
        As in scikit-learn before 1.8.
    C : float
        Inverse strength.
    l1_ratio : float
        Share of the l1 norm in the penalty.

    Returns
    -------
    C : float
        What scikit-learn 1.8 would be given for the same objective.
    l1_ratio : float
        Likewise.
    """
    C = check_number("C", C, above=0)
    if penalty == "elasticnet" and l1_ratio is None:
        raise ValueError("l1_ratio must be specified when penalty is elasticnet.")
    l1_ratio = check_l1_ratio("l1_ratio", 0.0 if l1_ratio is None else l1_ratio)
    if penalty == "deprecated":
        return C, l1_ratio
    if penalty is not None:
        check_choice("penalty", penalty, [*PENALTIES, "elasticnet"])
    warnings.warn(
        "penalty is deprecated, as in scikit-learn 1.8: give l1_ratio=0 for 'l2', l1_ratio=1 for "
        "'l1', a value between for 'elasticnet', and C=np.inf for None.",
        FutureWarning,
        stacklevel=5,
    )
    if penalty is None:
        if C != 1.0:
            warnings.warn("C has no effect with penalty=None.", UserWarning, stacklevel=5)
        return inf, 0.0
    own = PENALTIES.get(penalty, l1_ratio)
    if own != l1_ratio and l1_ratio != 0.0:
        warnings.warn(
            f"l1_ratio={l1_ratio:g} has no effect with penalty={penalty!r}.",
            UserWarning,
            stacklevel=5,
        )
    return C, own


def solver_of(estimator: Any, options: Options, *, n_classes: int) -> str:
    """The solver here, after scikit-learn's refusals of wrong combinations.

    Parameters
    ----------
    estimator : LogisticRegression
        Its `solver` and `dual` are read; dual is for "liblinear" only, as in scikit-learn.
    options : Options
        Its other arguments.
    n_classes : int
        Number of classes.

    Returns
    -------
    str
        "auto" or a key of `accel.solvers.SOLVERS`.
    """
    return nearest(estimator, options.C, options.l1_ratio, n_classes)


def nearest(estimator: Any, C: float, l1_ratio: float, n_classes: int) -> str:
    """`solver_of` with the numbers it needs."""
    name = check_choice("solver", estimator.solver, NEAREST)
    if check_flag("dual", estimator.dual) and name != "liblinear":
        raise ValueError(f"solver={name!r} supports only dual=False, got dual=True.")
    has_l1 = l1_ratio > 0 and inf != C
    if has_l1 and l1_ratio < 1 and name not in TAKES_ELASTIC_NET:
        raise ValueError(
            f"solver={name!r} does not support the elastic net (l1_ratio={l1_ratio}): "
            "use solver='auto' or 'saga'."
        )
    if has_l1 and name not in TAKES_L1:
        raise ValueError(
            f"solver={name!r} supports only the l2 penalty (l1_ratio=0) or none (C=np.inf), got "
            f"l1_ratio={l1_ratio}: use solver='auto' or 'saga'."
        )
    if name == "liblinear" and inf == C:
        raise ValueError("solver='liblinear' does not support C=np.inf: use solver='auto'.")
    if name == "liblinear" and n_classes > 2:
        raise ValueError(
            "solver='liblinear' does not support more than two classes: use solver='auto', or "
            "wrap the estimator in a OneVsRestClassifier for one-versus-rest."
        )
    return "orthant" if has_l1 else NEAREST[name]
