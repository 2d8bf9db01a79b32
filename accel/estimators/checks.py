"""Checks of what users pass in: one sentence that names the argument and says what to do."""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from accel.backends.interchange import is_device_array, namespace

Array = Any


def check_number(
    name: str, value: Any, *, above: float | None = None, at_least: float | None = None
) -> float:
    """A real number in its range; infinity is allowed, NaN is not."""
    bound = f"above {above}" if above is not None else f"at least {at_least}"
    good = isinstance(value, Real) and not isinstance(value, bool) and value == value
    if good and above is not None:
        good = value > above
    if good and at_least is not None:
        good = value >= at_least
    if not good:
        raise ValueError(f"{name}={value!r} must be a number {bound}.")
    return float(value)


def check_count(name: str, value: Any) -> int:
    """An integer that is at least 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name}={value!r} must be an integer, 0 or more.")
    return int(value)


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """One of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}.")
    return value


def check_X(estimator: Any, X: Any, *, fitting: bool) -> Array:
    """X as a two-dimensional, finite array of float32 or float64.

    Arrays of other libraries stay where they are; everything else becomes NumPy through
    scikit-learn's validation, which also keeps the names of the features.
    """
    if not fitting:
        check_is_fitted(estimator)
    if not is_device_array(X):
        return validate_data(estimator, X, dtype=[np.float64, np.float32], reset=fitting)
    xp = namespace(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(
            f"X has shape {tuple(X.shape)}: pass (n_samples, n_features), none of them 0."
        )
    if not xp.isdtype(X.dtype, "real floating"):
        X = xp.astype(X, xp.float64)
    elif X.dtype not in (xp.float32, xp.float64):
        X = xp.astype(X, xp.float32)
    if not bool(xp.all(xp.isfinite(X))):
        raise ValueError("X contains NaN or infinity: remove or impute those rows first.")
    if fitting:
        estimator.n_features_in_ = int(X.shape[1])
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    return X


def check_start(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A starting value of this shape, finite; None is zero."""
    if value is None:
        return np.zeros(shape)
    start = np.asarray(value, dtype=np.float64)
    if start.size != int(np.prod(shape)) or start.shape[-1:] != shape[-1:]:
        raise ValueError(f"{name} has shape {start.shape}: pass {shape}.")
    if not isfinite(float(np.sum(start))):
        raise ValueError(f"{name} contains NaN or infinity: pass finite numbers.")
    return start.reshape(shape)
