"""Who is measured: accel on each backend and its peers, each ready to be called again and again.

A contender takes a case and returns a callable whose result is on the host or whose device has
finished: the call is what is timed. It returns None where it does not apply.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from accel.backends import get_backend
from accel.benchmark.cases import FitCase, PassCase
from accel.estimators import LogisticRegression
from accel.losses import LOSSES
from accel.network import Network
from accel.objective import Objective

Array = Any
Call = Callable[[], Any]


def accel_pass(case: PassCase, backend_name: str) -> Call:
    """One `Objective.value_and_grad`, the arrays already on the device.

    Parameters
    ----------
    case : PassCase
        The shape.
    backend_name : str
        Where to run.

    Returns
    -------
    callable
        () -> (value, gradient).
    """
    X, labels, params = case.arrays
    backend = get_backend(backend_name)
    loss = LOSSES["logistic" if case.n_outputs == 1 else "softmax"]
    with backend.context():
        there = backend.asarray(X)
        start = backend.asarray(params)
        objective = Objective(
            there,
            backend.asarray(loss.encode_target(labels)),
            backend.asarray(np.full(len(X), 1 / len(X)), dtype=there.dtype),
            loss=loss,
            network=Network(case.n_features, case.n_outputs),
            alpha=0.0,
            backend=backend,
        )
        backend.synchronize()

    def call() -> tuple[float, Any]:
        with backend.context():
            value, gradient = objective.value_and_grad(start)
            return backend.scalars(value)[0], backend.to_numpy(gradient)

    return call


def two_pass_numpy(case: PassCase) -> Call:
    """The pass as a textbook writes it in NumPy: two products with the whole X.

    Parameters
    ----------
    case : PassCase
        The shape.

    Returns
    -------
    callable
        () -> (value, gradient).
    """
    X, labels, params = case.arrays
    K = case.n_outputs
    one_hot = np.eye(K, dtype=X.dtype)[labels] if K > 1 else labels.astype(X.dtype)[:, None]

    def call() -> tuple[float, Any]:
        z = X @ params[:-K].reshape(-1, K) + params[-K:]
        if K == 1:
            loss = np.logaddexp(0, z) - one_hot * z
            residual = 1 / (1 + np.exp(-z)) - one_hot
        else:
            z -= z.max(axis=1, keepdims=True)
            e = np.exp(z)
            total = e.sum(axis=1, keepdims=True)
            loss = np.log(total[:, 0]) - (z * one_hot).sum(axis=1)
            residual = e / total - one_hot
        residual /= len(X)
        gradient = np.concatenate([(X.T @ residual).ravel(), residual.sum(axis=0)])
        return float(loss.mean()), gradient

    return call


def accel_fit(case: FitCase, backend_name: str) -> Call:
    """A full fit with accel's default solver.

    Parameters
    ----------
    case : FitCase
        The data.
    backend_name : str
        Where to run.

    Returns
    -------
    callable
        () -> fitted estimator.
    """
    model = LogisticRegression(C=case.C, tol=case.tol, backend=backend_name)
    return _quiet(lambda: model.fit(case.X, case.y))


def scikit_learn_fit(case: FitCase, solver: str) -> Call:
    """A full fit with scikit-learn.

    Parameters
    ----------
    case : FitCase
        The data.
    solver : str
        Of scikit-learn.

    Returns
    -------
    callable
        () -> fitted estimator.
    """
    from sklearn.linear_model import LogisticRegression as Peer

    model = Peer(C=case.C, tol=case.tol, max_iter=10_000, solver=solver)
    return _quiet(lambda: model.fit(case.X, case.y))


def _quiet(call: Call) -> Call:
    """A fit that misses its objective is marked in its row, not warned of in the middle of it."""

    def quiet() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return call()

    return quiet
