"""Targets of the networks: classes, several labels at once, or numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, column_or_1d

from accel.backends.interchange import is_sparse, to_host
from accel.estimators.checks import check_targets, check_weight
from accel.estimators.prediction import loss_for, most_probable
from accel.losses import MULTILABEL, TargetLoss

Array = Any


@dataclass(frozen=True)
class NetworkTargets:
    """What a network is to predict, on the host.

    Parameters
    ----------
    loss : PointLoss
        Compares it with raw predictions.
    Y : ndarray (n_samples, n_columns)
        Targets, as the loss takes them.
    weight : ndarray (n_samples,) or None
        Weights of the rows; None for one each.
    n_outputs : int
        Columns of raw predictions.
    score : callable
        (raw prediction of rows, rows, weights) -> accuracy or R2, all on the host.
    output : str
        scikit-learn's name of what makes a prediction of a raw one.
    strata : ndarray (n_samples,) or None
        What the held-out rows keep the shares of.
    classes : ndarray (n_classes,) or None
        Labels, sorted; for several labels a row, their places; None for numbers.
    has_all : bool
        Whether every class occurs.
    """

    loss: Any
    Y: NDArray[Any]
    weight: NDArray[np.float64] | None
    n_outputs: int
    score: Callable[[NDArray[Any], NDArray[np.intp], Any], float]
    output: str
    strata: NDArray[Any] | None = None
    classes: NDArray[Any] | None = None
    has_all: bool = True


def class_targets(
    y: Any, n_rows: int, sample_weight: Any, class_weight: Any, *, known: Array | None
) -> NetworkTargets:
    """Targets for a label a row, or for several.

    Parameters
    ----------
    y : array-like (n_samples,) or (n_samples, n_labels)
        Labels, or zeros and ones.
    n_rows : int
        Rows of X.
    sample_weight, class_weight : object
        As given to the estimator.
    known : ndarray or None
        The classes there are; None to take those of y.

    Returns
    -------
    NetworkTargets
        On the host.
    """
    y = to_host(y)
    if is_sparse(y):
        y = y.toarray()  # zeros and ones of several labels
    has_columns = y is not None and np.asarray(y).ndim == 2 and np.asarray(y).shape[1] > 1
    if has_columns and type_of_target(y, input_name="y") == "multilabel-indicator":
        if class_weight is not None:
            raise ValueError("class_weight is for one label a row: give sample_weight instead.")
        return _label_targets(check_array(y), n_rows, sample_weight, known=known)
    found = check_targets(y, n_rows, sample_weight, class_weight, classes=known, at_least=1)
    n_classes = len(found.classes)
    loss, is_weighted = loss_for(n_classes), sample_weight is not None or class_weight is not None
    return NetworkTargets(
        loss=loss,
        Y=loss.encode_target(found.index),
        weight=found.weight if is_weighted else None,
        n_outputs=loss.n_outputs(n_classes),
        score=partial(_accuracy, found.index, partial(most_probable, n_classes=n_classes)),
        output="logistic" if n_classes == 2 else "softmax",
        strata=found.index if n_classes == 2 else None,
        classes=found.classes,
        has_all=len(np.unique(found.index)) == n_classes,
    )


def _label_targets(
    y: NDArray[Any], n_rows: int, sample_weight: Any, *, known: Array | None
) -> NetworkTargets:
    loss, n_labels = MULTILABEL, y.shape[1]
    _check_length(y, n_rows)
    if known is not None and len(known) != n_labels:
        raise ValueError(f"y has {n_labels} labels, but there are {len(known)} classes.")
    return NetworkTargets(
        loss=loss,
        Y=loss.encode_target(y),
        weight=check_weight(sample_weight, n_rows),
        n_outputs=n_labels,
        score=partial(_accuracy, y, more_probable_than_not),
        output=loss.output,
        classes=np.arange(n_labels),
    )


def number_targets(y: Any, n_rows: int, sample_weight: Any, *, loss: TargetLoss) -> NetworkTargets:
    """Targets for numbers.

    Parameters
    ----------
    y : array-like (n_samples,) or (n_samples, n_outputs)
        Numbers.
    n_rows : int
        Rows of X.
    sample_weight : object
        As given to the estimator.
    loss : TargetLoss
        What compares them with raw predictions.

    Returns
    -------
    NetworkTargets
        On the host.
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    y = check_array(to_host(y), ensure_2d=False, dtype=np.float64, input_name="y")
    if y.ndim > 2:
        raise ValueError(f"y has shape {y.shape}: pass (n_samples,) or (n_samples, n_outputs).")
    if y.ndim == 1 or y.shape[1] == 1:
        y = column_or_1d(y, warn=True)[:, None]
    _check_length(y, n_rows)
    return NetworkTargets(
        loss=loss,
        Y=loss.encode_target(y),
        weight=check_weight(sample_weight, n_rows),
        n_outputs=y.shape[1],
        score=partial(_determination, loss, y),
        output=loss.output,
    )


def more_probable_than_not(raw: Array, *, xp: Any) -> Array:
    """One where a label is, zero where it is not, from raw predictions."""
    return xp.astype(raw > 0, xp.int64)


def _check_length(y: NDArray[Any], n_rows: int) -> None:
    if len(y) != n_rows:
        raise ValueError(f"y has {len(y)} rows but X has {n_rows}: pass one a row.")


def _accuracy(
    truth: NDArray[Any], decide: Any, raw: NDArray[Any], rows: NDArray[np.intp], weight: Any
) -> float:
    """Share of the rows whose label, or whose every label, is predicted."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth[rows], decide(raw, xp=np), sample_weight=weight))


def _determination(
    loss: TargetLoss, y: NDArray[Any], raw: NDArray[Any], rows: NDArray[np.intp], weight: Any
) -> float:
    """R2 of the rows; NaN where a prediction is not finite, as in scikit-learn."""
    from sklearn.metrics import r2_score

    prediction = loss.predict(raw, xp=np)
    if not np.isfinite(prediction).all():
        return float("nan")
    return float(r2_score(y[rows], prediction, sample_weight=weight))
