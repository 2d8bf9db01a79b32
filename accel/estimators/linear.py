"""What every fitted linear classifier does: predict where X lies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from accel.backends import Backend
from accel.backends.base import row_blocks
from accel.backends.interchange import (
    device_of,
    is_sparse,
    like,
    namespace,
    take_rows,
    to_host,
    with_out,
)
from accel.estimators.checks import COMPACT, Targets, arithmetic_dtype, check_X
from accel.losses import LOSSES, Loss
from accel.network import Network
from accel.objective import Objective

Array = Any
BLOCK_BYTES = 8 << 20


def loss_for(n_classes: int) -> Loss:
    """Logistic for two classes, softmax for more."""
    return LOSSES["logistic" if n_classes == 2 else "softmax"]


def linear_objective(
    X: Array,
    targets: Targets,
    backend: Backend,
    *,
    fit_intercept: bool,
    input_scale: float,
    alpha: float = 0.0,
    l1: float = 0.0,
) -> Objective:
    """The objective of a linear model on the backend's device, where X already lies."""
    loss = loss_for(len(targets.classes))
    return Objective(
        X,
        backend.asarray(loss.encode_target(targets.index)),
        backend.asarray(targets.weight / targets.total, dtype=arithmetic_dtype(X, backend.xp)),
        loss=loss,
        network=Network(X.shape[1], loss.n_outputs(len(targets.classes)), bias=fit_intercept),
        alpha=alpha,
        l1=l1,
        backend=backend,
        input_scale=input_scale,
    )


def coefficients(network: Network, params: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of params (..., n_params): (..., n_outputs, n_features) and (..., n_outputs)."""
    shape = (*params.shape[:-1], network.n_in, network.n_out)
    n_weights = network.n_in * network.n_out
    coef = np.swapaxes(params[..., :n_weights].reshape(shape), -1, -2)
    intercept = params[..., n_weights:]
    if not network.bias:
        intercept = np.zeros(coef.shape[:-1], dtype=coef.dtype)
    return np.ascontiguousarray(coef), intercept.copy()


class LinearClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Predictions from coef_, intercept_ and classes_, in the namespace and on the device of X."""

    def __sklearn_tags__(self) -> Any:
        """Sparse X is taken, and arrays of other libraries stay where they are."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def decision_function(self, X: Any) -> Array:
        """Raw predictions Z = X W + b.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples,) for two classes, else (n_samples, n_classes)
            In the namespace and on the device of X.
        """
        with device_of(X):
            raw = self._raw_prediction(X)
            return raw[:, 0] if raw.shape[1] == 1 else raw

    def predict_proba(self, X: Any) -> Array:
        """Probability of every class.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples, n_classes)
            Rows sum to one; in the namespace and on the device of X.
        """
        with device_of(X):
            raw = self._raw_prediction(X)
            return loss_for(len(self.classes_)).probabilities(raw, xp=namespace(raw))

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
            raw = self._raw_prediction(X)
            return loss_for(len(self.classes_)).log_probabilities(raw, xp=namespace(raw))

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
            raw = self._raw_prediction(X)
            xp = namespace(raw)
            is_binary = raw.shape[1] == 1
            index = xp.astype(raw[:, 0] > 0, xp.int64) if is_binary else xp.argmax(raw, axis=1)
            if self.classes_.dtype.kind in "biuf":
                return xp.take(like(self.classes_, raw), index)
            return self.classes_[to_host(index)]

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

        labels, weight = to_host(self.predict(X)), to_host(sample_weight)
        return float(accuracy_score(to_host(y), labels, sample_weight=weight))

    def _raw_prediction(self, X: Any) -> Array:
        """(n_samples, n_outputs); compact X is converted block by block."""
        X = check_X(self, X, fitting=False)
        xp = with_out(namespace(X))
        compact = str(X.dtype).rpartition(".")[2] in COMPACT and not is_sparse(X)
        dtype = getattr(xp, str(self.coef_.dtype)) if compact else X.dtype
        W = (self.coef_.T * self.input_scale_).reshape(-1)
        params = xp.astype(like(np.concatenate([W, self.intercept_]), X), dtype)
        network = Network(self.n_features_in_, len(self.intercept_))
        whole = [slice(0, X.shape[0])]
        blocks = row_blocks(X.shape[0], 8 * X.shape[1], BLOCK_BYTES) if compact else whole
        parts = [
            network.forward(params, take_rows(X, rows, dtype, xp=xp), xp=xp)[0] for rows in blocks
        ]
        return parts[0] if len(parts) == 1 else xp.concat(parts)
