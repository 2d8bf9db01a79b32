"""Checks of rows, labels and weights: one sentence that names the argument and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf, isfinite
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from accel.backends.base import row_blocks
from accel.backends.interchange import canonical, is_device_array, is_sparse, namespace, to_host
from accel.cluster import is_dask
from accel.estimators.arguments import check_number
from accel.sources import as_source, is_source, open_data, open_rows

Array = Any
# Storage that is trained on as it lies; a block of it at a time becomes float32.
COMPACT = ("uint8", "int8", "float16", "bfloat16")
CHECK_BLOCK_BYTES = 16 << 20


@contextmanager
def old_model_kept(estimator: Any, fitted: str) -> Iterator[None]:
    """Inside it, a fit that ends before it has a model of its own leaves the estimator as it was.

    Parameters
    ----------
    estimator : object
        What is fitted: its checks learn the number and the names of columns before X is read.
    fitted : str
        Name of the attribute that a new model replaces.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        if vars(estimator).get(fitted) is before.get(fitted):
            vars(estimator).clear()
            vars(estimator).update(before)
        raise


def check_X(estimator: Any, X: Any, *, fitting: bool) -> Array:
    """X as a two-dimensional, finite array of a storage dtype; that of the user is never written.

    Arrays of other libraries stay where they are; everything else becomes NumPy through
    scikit-learn's validation, which also keeps the names of the features.
    """
    if is_dask(X):
        raise TypeError(
            "X is a dask collection, which only LogisticRegression fits on a cluster: pass "
            "X.compute() where there is room, or a path."
        )
    if not fitting:
        check_is_fitted(estimator)
    if isinstance(X, str | PathLike) or is_source(X):
        raise TypeError(
            f"{type(estimator).__name__} needs X in memory, got {getattr(X, 'name', X)}: load it, "
            "or use LogisticRegression, which reads it block by block."
        )
    if is_device_array(X):
        return _check_device_X(estimator, X, fitting=fitting)
    compact = str(getattr(X, "dtype", "")) in COMPACT and not is_sparse(X)
    if is_sparse(X) and X.format == "csr":
        X = canonical(X)
    X = validate_data(
        estimator,
        X,
        accept_sparse="csr",
        dtype=[X.dtype] if compact else [np.float64, np.float32],
        ensure_all_finite=not compact,
        reset=fitting,
    )
    return _check_finite(X, np) if compact else X


def opened(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """What a path holds: rows, and unless labels are given, its labels and weights."""
    if not isinstance(X, str | PathLike):
        return X, y, sample_weight
    if y is not None:
        return open_rows(Path(X)), y, sample_weight
    data = open_data(Path(X))
    return data.X, data.y, data.sample_weight if sample_weight is None else sample_weight


def check_rows(estimator: Any, X: Any, *, fitting: bool) -> Any:
    """A source of rows as it is, if its columns fit; everything else as `check_X` leaves it."""
    if not fitting and isinstance(X, str | PathLike):
        # the same columns as in the fit: by their names, or all of them
        source: Any = open_rows(Path(X), vars(estimator).get("feature_names_in_"))
    else:
        source = as_source(X)
    if source is None:
        return check_X(estimator, X, fitting=fitting)
    names = source.feature_names
    if fitting:
        vars(estimator).pop("feature_names_in_", None)
        estimator.n_features_in_ = source.shape[1]
        if names is not None:
            estimator.feature_names_in_ = np.array(names, dtype=object)
        return source
    check_is_fitted(estimator)
    known = vars(estimator).get("feature_names_in_")
    if names is not None and known is not None and list(names) != list(known):
        raise ValueError(
            f"{source.name}: its columns are not those of the fit, in their order: name them, "
            f"accel.sources.open_rows(path, model.feature_names_in_)."
        )
    _check_width(estimator, source)
    return source


def _check_device_X(estimator: Any, X: Any, *, fitting: bool) -> Array:
    xp = namespace(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(
            f"X has shape {tuple(X.shape)}: pass (n_samples, n_features), none of them 0."
        )
    name = str(X.dtype).rpartition(".")[2]
    stored = ("float32", "float64") if is_sparse(X) else (*COMPACT, "float32", "float64")
    if name not in stored:
        if not xp.isdtype(X.dtype, ("bool", "integral", "real floating")):
            raise ValueError(f"X holds {name} values: pass real numbers.")
        X = X.astype("float64") if is_sparse(X) else xp.astype(X, xp.float64)
    if is_sparse(X):
        X = canonical(X.tocsr())
    if fitting:
        vars(estimator).pop("feature_names_in_", None)
        estimator.n_features_in_ = int(X.shape[1])
    else:
        _check_width(estimator, X)
    return _check_finite(X, xp)


def _check_width(estimator: Any, X: Any) -> None:
    """As many columns as in the fit, in scikit-learn's words."""
    if X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )


def _check_finite(X: Array, xp: Any) -> Array:
    """X, if it is finite; looked at block by block, so that no mask of its size is made."""
    if "int" in str(X.dtype):
        return X
    if is_sparse(X):
        _check_finite(xp.reshape(X.data, (-1, 1)), xp)
        return X
    for rows in row_blocks(X.shape[0], 4 * X.shape[1], CHECK_BLOCK_BYTES):
        if not bool(xp.all(xp.isfinite(X[rows, :]))):
            raise ValueError("X contains NaN or infinity: remove or impute those rows first.")
    return X


def arithmetic_dtype(X: Array, xp: Any) -> Any:
    """float64 for float64, float32 for float32 and for compact storage."""
    return xp.float64 if str(X.dtype).endswith("float64") else xp.float32


@dataclass(frozen=True)
class Targets:
    """Labels and weights on the host, where unique and validation are exact.

    Parameters
    ----------
    classes : ndarray (n_classes,)
        Labels, sorted.
    index : ndarray (n_samples,)
        Label of every row, as its place in classes.
    weight : ndarray (n_samples,)
        sample_weight times class_weight, float64.
    whole : float, optional
        S, where these are some of the rows; or where none are here, index and weight None, but on
        the workers of a cluster.
    """

    classes: Array
    index: Array
    weight: Array
    whole: float | None = None

    @property
    def total(self) -> float:
        """S, the sum of the weights."""
        return float(np.sum(self.weight)) if self.whole is None else self.whole

    @property
    def class_totals(self) -> Array:
        """Weight of each class, (n_classes,)."""
        return np.bincount(self.index, self.weight, len(self.classes))

    def at(self, places: Array) -> Targets:
        """Those of some rows, in which every class weighs what it does in all."""
        some = Targets(self.classes, self.index[places], self.weight[places])
        return some.weighing(self.class_totals)

    def weighing(self, class_totals: Array) -> Targets:
        """The same with these weights of the classes; if no row weighs anything, each counts once.

        A sample that holds more of a rare class than its share is set right by this.
        """
        own = self.class_totals
        factor = np.divide(class_totals, own, out=np.zeros_like(own), where=own > 0)
        weight = self.weight * factor[self.index]
        return replace(self, weight=weight if weight.any() else np.ones_like(weight), whole=None)


def check_weight(sample_weight: Any, n_rows: int) -> Array | None:
    """Non-negative weights, one a row and not all zero; None stays None."""
    if sample_weight is None:
        return None
    weight = _check_sample_weight(
        to_host(sample_weight), np.empty(n_rows), dtype=np.float64, ensure_non_negative=True
    )
    if not 0 < float(np.sum(weight)) < inf:
        raise ValueError(
            "sample_weight is zero for every row, or overflows: give at least one row weight."
        )
    return weight


def check_targets(
    y: Any,
    n_rows: int,
    sample_weight: Any,
    class_weight: Any,
    *,
    classes: Array | None = None,
    at_least: int = 2,
) -> Targets:
    """Labels of any type, of these classes if they are given; non-negative weights, one a row.

    Of `at_least` so many classes.
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    y = column_or_1d(to_host(y), warn=True)
    if len(y) != n_rows:
        raise ValueError(f"y has {len(y)} labels but X has {n_rows} rows: pass one a row.")
    present, index = labels_of(y)
    if classes is None:
        classes = present
    else:
        index = _places(present, classes)[index]
    check_classes(classes, at_least)
    weight = weights_of(sample_weight, y)
    with np.errstate(over="ignore"):
        if class_weight is not None:
            totals = np.bincount(index, weights=weight, minlength=len(classes))
            weight = weight * class_weights(class_weight, classes, totals)[index]
        targets = Targets(classes, index, weight)
        check_total(targets.total)
    return targets


def labels_of(y: Array) -> tuple[Array, Array]:
    """Labels that occur in y, a column on the host, sorted; and that of every row, as its place."""
    assert_all_finite(y, input_name="y")
    check_classification_targets(y)
    present, index = np.unique(y, return_inverse=True)
    return present, index


def weights_of(sample_weight: Any, y: Array) -> Array:
    """float64 weights on the host, one a label of y; ones where they are None."""
    return _check_sample_weight(
        to_host(sample_weight), y, dtype=np.float64, ensure_non_negative=True
    )


def check_classes(classes: Array, at_least: int = 2) -> None:
    """Two of them, or so many."""
    if len(classes) < at_least:
        raise ValueError(
            f"y holds only one class, {classes[0]}: a classifier needs at least two classes."
        )


def check_total(total: float) -> None:
    """A sum of weights that can be divided by."""
    if not isfinite(total):
        raise ValueError("sample_weight and class_weight overflow: divide them by a constant.")
    if total == 0:
        raise ValueError("sample_weight is zero for every row: give at least one row weight.")


def _places(present: Array, classes: Array) -> Array:
    """Places of labels among the classes."""
    unknown = np.setdiff1d(present, classes)
    if len(unknown):
        raise ValueError(
            f"`y` has classes not in `self.classes_`. `self.classes_` has {classes}. "
            f"'y' has {present}."
        )
    return np.searchsorted(classes, present)


def class_weights(class_weight: Any, classes: Array, totals: Array) -> Array:
    """Weight of each class, from the sums of the weights of its rows.

    "balanced" gives every class the same share of the total weight: a row of weight 2 counts twice
    here too, as if it stood twice in X.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        return np.sum(totals) / (len(classes) * np.where(totals > 0, totals, 1))
    if isinstance(class_weight, dict):
        for label, value in class_weight.items():
            check_number(f"class_weight[{label!r}]", value, at_least=0, finite=True)
    return compute_class_weight(class_weight, classes=classes, y=classes)


def check_start(name: str, value: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """A starting value of this shape, finite in this dtype; None is zero."""
    if value is None:
        return np.zeros(shape, dtype=dtype)
    with np.errstate(over="ignore"):
        start = np.asarray(to_host(value), dtype=dtype)
    if start.size != int(np.prod(shape)) or start.shape[-1:] != shape[-1:]:
        raise ValueError(f"{name} has shape {start.shape}: pass {shape}.")
    if not np.isfinite(start).all():
        raise ValueError(f"{name} contains NaN or infinity as {start.dtype}: pass finite numbers.")
    return start.reshape(shape)
