"""What every fitted linear classifier does: predict where X lies."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from accel.backends import Backend
from accel.backends.base import row_blocks
from accel.backends.interchange import (
    device_of,
    is_sparse,
    take_rows,
    to_host,
)
from accel.cluster import is_distributed
from accel.cluster.lazily import by_partitions
from accel.estimators.checks import Targets, arithmetic_dtype
from accel.estimators.prediction import (
    BLOCK_BYTES,
    ArrayEstimator,
    ClassPredictions,
    loss_for,
    placed,
)
from accel.network import Network
from accel.objective import Objective

Array = Any


def linear_objective(
    X: Array,
    targets: Targets,
    backend: Backend,
    *,
    fit_intercept: bool,
    input_scale: float,
    alpha: float = 0.0,
    l1: float = 0.0,
    sample: Objective | None = None,
) -> Objective:
    """The objective of a linear model on the backend's device, where X lies or is brought to."""
    loss, dtype = loss_for(len(targets.classes)), arithmetic_dtype(X, backend.xp)
    is_here = not is_distributed(X)  # else the workers hold what goes with the rows
    return Objective(
        X,
        backend.asarray(loss.encode_target(targets.index)) if is_here else None,
        backend.asarray(_shares(targets), dtype=dtype) if is_here else None,
        loss=loss,
        network=Network(X.shape[1], loss.n_outputs(len(targets.classes)), bias=fit_intercept),
        alpha=alpha,
        l1=l1,
        backend=backend,
        input_scale=input_scale,
        sample=sample,
        dtype=dtype,
        exact_weights=partial(_shares, targets) if is_here else None,
    )


def _shares(targets: Targets) -> NDArray[np.float64]:
    """Weights of sum one."""
    return targets.weight / targets.total  # type: ignore[no-any-return]


def coefficients(network: Network, params: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of params (..., n_params): (..., n_outputs, n_features) and (..., n_outputs)."""
    shape = (*params.shape[:-1], network.n_in, network.n_out)
    n_weights = network.n_in * network.n_out
    coef = np.swapaxes(params[..., :n_weights].reshape(shape), -1, -2)
    intercept = params[..., n_weights:]
    if not network.bias:
        intercept = np.zeros(coef.shape[:-1], dtype=coef.dtype)
    return np.ascontiguousarray(coef), intercept.copy()


def dense_coef(model: Any) -> NDArray[Any]:
    """Coefficients of a fitted model as an array on the host, also where they are held sparse."""
    coef = to_host(model.coef_)
    return coef.toarray() if is_sparse(coef) else coef  # type: ignore[no-any-return]


class LinearClassifier(ClassPredictions, ArrayEstimator):
    """Predictions from coef_, intercept_ and classes_, in the namespace and on the device of X."""

    @by_partitions
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
            raw = self._raw_prediction(X, "decision_function")
            return raw[:, 0] if raw.shape[1] == 1 else raw

    def sparsify(self) -> Any:
        """Hold coef_ as a scipy.sparse.csr_matrix, smaller where an l1 penalty left most at zero.

        Returns
        -------
        estimator
            This one; predictions are the same, fits make it dense again.
        """
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

        check_is_fitted(self)
        if not is_sparse(self.coef_):
            self.coef_: Any = csr_matrix(to_host(self.coef_))
        return self

    def densify(self) -> Any:
        """Hold coef_ as an array again.

        Returns
        -------
        estimator
            This one.
        """
        check_is_fitted(self)
        if is_sparse(self.coef_):
            self.coef_ = self.coef_.toarray()
        return self

    @property
    def first_weights(self) -> Array:
        """Fitted weights, where they live."""
        return self.coef_

    def _raw_of(self, X: Array) -> Array:
        """(n_samples, n_outputs); compact X is converted block by block."""
        coef = dense_coef(self)
        intercept = np.broadcast_to(to_host(self.intercept_), coef.shape[:1])  # 0.0 by hand
        W = (coef.T * self.input_scale_).reshape(-1)
        params, xp = placed(np.concatenate([W, intercept]), X)
        network = Network(self.n_features_in_, len(intercept))
        blocks = [slice(0, X.shape[0])]
        if X.dtype != params.dtype:  # converted block by block, as in training
            blocks = row_blocks(X.shape[0], 8 * X.shape[1], BLOCK_BYTES)
        parts = [
            network.forward(params, take_rows(X, rows, params.dtype, xp=xp), xp=xp)[0]
            for rows in blocks
        ]
        return parts[0] if len(parts) == 1 else xp.concat(parts)
