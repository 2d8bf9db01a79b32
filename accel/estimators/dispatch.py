"""scikit-learn's array API contract: while its dispatch is on, fitted attributes live where X lay.

Without it they are NumPy, and a model predicts wherever X lies.
"""

from __future__ import annotations

from typing import Any

import array_api_compat as compat
import numpy as np
from sklearn import get_config

from accel.backends.interchange import is_device_array, is_sparse, like, namespace

Array = Any
ON_THE_HOST = ("classes_", "feature_names_in_")  # they may hold strings


def move_attributes(estimator: Any, X: Array) -> None:
    """Move fitted arrays, and lists of arrays, to the namespace and device of X.

    Nothing moves where scikit-learn's dispatch is off or X is NumPy or sparse.

    Parameters
    ----------
    estimator : BaseEstimator
        Fitted; its arrays are NumPy.
    X : array-like (n_samples, n_features)
        As the user gave it to fit.
    """
    if not _dispatches() or not is_device_array(X) or is_sparse(X):
        return
    for name, value in vars(estimator).items():
        if name in ON_THE_HOST or not name.endswith("_"):
            continue
        if isinstance(value, np.ndarray):
            setattr(estimator, name, like(value, X))
        elif isinstance(value, list) and value and isinstance(value[0], np.ndarray):
            setattr(estimator, name, [like(part, X) for part in value])


def check_same_namespace(estimator: Any, X: Array, method: str) -> None:
    """Refuse, while the dispatch is on, rows that do not lie where the rows of the fit lay.

    Parameters
    ----------
    estimator : ArrayEstimator
        Fitted.
    X : array-like (n_samples, n_features)
        As the user gave it.
    method : str
        What was called.

    Raises
    ------
    ValueError
        If the namespaces or devices differ.
    """
    if not _dispatches():
        return
    here, learned = _place(X), _place(estimator.first_weights)
    if here != learned:
        raise ValueError(
            f"{type(estimator).__name__}.{method}() must use the same namespace and device as fit "
            f"while array_api_dispatch is on: X is {_words(here)}, the model {_words(learned)}; "
            "move X, or turn the dispatch off."
        )


def _dispatches() -> bool:
    return bool(get_config()["array_api_dispatch"])


def _place(array: Array) -> tuple[Any, Any]:
    """Namespace and device; host arrays, lists, frames and sparse matrices are all NumPy."""
    if not is_device_array(array) or is_sparse(array):
        return np, None
    return namespace(array), compat.device(array)


def _words(place: tuple[Any, Any]) -> str:
    xp, device = place
    name = str(xp.__name__).rpartition("compat.")[2]
    return name if device is None else f"{name} on {device}"
