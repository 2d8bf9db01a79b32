"""What fitted estimators share: predictions where X lies, from attributes that are NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from accel.backends import get_backend
from accel.backends.base import row_blocks
from accel.backends.interchange import (
    device_of,
    like,
    namespace,
    take_rows,
    to_host,
    with_out,
)
from accel.cluster.lazily import by_partitions, computed
from accel.estimators.checks import check_rows
from accel.estimators.dispatch import check_same_namespace
from accel.losses import LOSSES, Loss
from accel.network import Network
from accel.rows import Streamed
from accel.sources import Source, is_source

Array = Any
BLOCK_BYTES = 8 << 20
# Labels that every library can take by their places; torch cannot the other unsigned ones.
TAKEN_ANYWHERE = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")


class ArrayEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator that takes arrays of any library."""

    def __sklearn_tags__(self) -> Any:
        """Sparse X is taken, and arrays of other libraries stay where they are."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def _raw_prediction(self, X: Any, method: str) -> Array:
        """(n_samples, n_outputs) raw predictions where X lies, for a public method of this name."""
        rows = check_rows(self, X, fitting=False)
        check_same_namespace(self, X, method)
        return by_blocks(rows, self._raw_of) if is_source(rows) else self._raw_of(rows)


class ClassPredictions(ClassifierMixin):  # type: ignore[misc]
    """Predictions from `_raw_prediction` and classes_, in the namespace and on the device of X."""

    @property
    def _link(self) -> Any:
        """What makes probabilities of raw predictions."""
        return loss_for(len(self.classes_))

    @by_partitions
    def predict_proba(self, X: Any) -> Array:
        """Probability of every class.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples, n_classes)
            Rows sum to one; in the namespace and on the device of X. As all predictions, lazily
            where X is a dask collection.
        """
        with device_of(X):
            raw = self._raw_prediction(X, "predict_proba")
            return self._link.probabilities(raw, xp=namespace(raw))

    @by_partitions
    def predict_log_proba(self, X: Any) -> Array:
        """Logarithm of the probability of every class, computed from Z: never log(0).

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples, n_classes)
            In the namespace and on the device of X.
        """
        with device_of(X):
            raw = self._raw_prediction(X, "predict_log_proba")
            return self._link.log_probabilities(raw, xp=namespace(raw))

    @by_partitions
    def predict(self, X: Any) -> Array:
        """Most probable label of every row.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples,)
            Labels; in the namespace and on the device of X where they are numbers or booleans.
        """
        with device_of(X):
            raw = self._raw_prediction(X, "predict")
            xp = namespace(raw)
            index = most_probable(raw, n_classes=len(self.classes_), xp=xp)
            return self._labels_at(index, raw)

    def _labels_at(self, index: Array, raw: Array) -> Array:
        """Labels at places on the device of raw, there where its namespace has such numbers."""
        labels = to_host(self.classes_)
        if labels.dtype.kind not in "biuf":
            return labels[to_host(index)]
        labels = labels.astype(labels.dtype.newbyteorder("="))
        if str(labels.dtype) in TAKEN_ANYWHERE:
            return namespace(raw).take(like(labels, raw), index)
        return like(labels[to_host(index)], raw)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy: the share of rows whose label is predicted.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.
        y : array-like (n_samples,)
            True labels.
        sample_weight : array-like (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
            Between 0 and 1.
        """
        from sklearn.metrics import accuracy_score  # 40 ms that `import accel` need not pay

        labels, y, weight = computed(self.predict(X), y, sample_weight)
        return float(accuracy_score(to_host(y), to_host(labels), sample_weight=to_host(weight)))


def most_probable(raw: Array, *, n_classes: int, xp: Any) -> Array:
    """Places of the most probable classes, from raw predictions."""
    return xp.astype(raw[:, 0] > 0, xp.int64) if n_classes == 2 else xp.argmax(raw, axis=1)


def loss_for(n_classes: int) -> Loss:
    """Logistic for two classes, softmax for more."""
    return LOSSES["logistic" if n_classes == 2 else "softmax"]


def n_outputs_for(n_classes: int) -> int:
    """Columns of the raw predictions."""
    return loss_for(n_classes).n_outputs(n_classes)


def placed(params: NDArray[Any], X: Array) -> tuple[Array, Any]:
    """Parameters in the namespace and on the device of X, in the dtype of the arithmetic there.

    It is the wider of the two: rows that hold the same numbers get the same answer, whatever their
    dtype, and a model is never rounded to that of the rows.

    Parameters
    ----------
    params : ndarray (n_params,)
        float32 or float64, on the host.
    X : array or sparse matrix
        What they are to meet.

    Returns
    -------
    params : array (n_params,)
        float64 where X or the model is, else float32.
    xp : module
        The namespace, whose functions take ``out=``.
    """
    xp = with_out(namespace(X))
    is_double = params.dtype == np.float64 or str(X.dtype).endswith("float64")
    return like(params.astype(np.float64 if is_double else np.float32), X), xp


def by_blocks(source: Source, function: Callable[[Array], Array]) -> NDArray[Any]:
    """function(X) of the rows of a source, read ahead block by block, on the CPU.

    Parameters
    ----------
    source : Source
        Rows on disk.
    function : callable
        Rows, NumPy -> an array with as many rows, no view of them.

    Returns
    -------
    ndarray (n_samples, ...)
        In row order.
    """
    cpu = get_backend("numpy")
    block_rows = max(1, cpu.stream_bytes(cpu.free_bytes()) // (8 * source.shape[1]))
    rows = Streamed(source, min(block_rows, source.shape[0]), cpu)
    return np.concatenate(list(rows.map(lambda X, _: function(X))))


def raw_prediction(network: Network, params: Array, X: Array, *, xp: Any) -> Array:
    """Output of the last layer for every row.

    Parameters
    ----------
    network : Network
        Layers.
    params : array (n_params,)
        Parameters for X as it is stored: `Network.input_scale` is in them. Their dtype is that of
        the arithmetic.
    X : array or sparse matrix (n_samples, n_in)
        Rows on the device of params, in any storage dtype.
    xp : module
        Array namespace, whose functions take ``out=``.

    Returns
    -------
    array (n_samples, n_out)
        On the same device.
    """
    blocks = row_blocks(X.shape[0], 8 * network.row_elements, BLOCK_BYTES)
    parts = [
        network.forward(params, take_rows(X, rows, params.dtype, xp=xp), xp=xp)[0]
        for rows in blocks
    ]
    return parts[0] if len(parts) == 1 else xp.concat(parts)
