"""Who is measured at one pass over the data: accel on each backend and its peers.

A contender takes a case and returns a callable whose result is on the host or whose device has
finished: the call is what is timed. `Absent` says why one cannot run here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from accel.backends.numpy_backend import NumpyBackend
from accel.benchmark.device_calls import CupyClock, DeviceCall, TorchClock
from accel.benchmark.needs import Absent, Call, compiled, open_backend, quiet, require, torch_on
from accel.benchmark.pass_cases import PassCase
from accel.estimators import LogisticRegression
from accel.losses import LOSSES
from accel.network import Network
from accel.objective import Objective

Array = Any


def _floats_only(case: PassCase) -> None:
    if case.dtype not in ("float32", "float64"):
        raise Absent(f"takes no {case.dtype}")


@dataclass(frozen=True)
class _RowBlocks(NumpyBackend):
    """The CPU as it is without numba."""

    def block_pass(self, loss: str, X: Any, n_outputs: int) -> None:  # noqa: ARG002
        """Row blocks only."""
        return


def accel_pass(case: PassCase, backend: Any) -> Call:
    """One `Objective.value_and_grad`, the arrays already on the device."""
    X, labels, params = case.arrays
    loss = LOSSES["logistic" if case.n_outputs == 1 else "softmax"]
    with backend.context():
        start = backend.asarray(params)
        objective = Objective(
            backend.asarray(X),
            backend.asarray(loss.encode_target(labels)),
            backend.asarray(np.full(len(X), 1 / len(X)), dtype=start.dtype),
            loss=loss,
            network=Network(case.n_features, case.n_outputs),
            alpha=0.0,
            backend=backend,
            input_scale=case.input_scale,
        )
        backend.synchronize()

    def launch() -> tuple[Array, Array]:
        with backend.context():
            return objective.value_and_grad(start)

    def fetch(result: tuple[Array, Array]) -> tuple[float, Any]:
        with backend.context():
            return backend.scalars(result[0])[0], backend.to_numpy(result[1])

    if backend.name.startswith("cupy"):
        return DeviceCall(launch, fetch, CupyClock(backend.cupy))
    return lambda: fetch(launch())


def cupy_two_products(case: PassCase) -> Call:
    """The pass as two lines of CuPy: two products with the whole X on the GPU, as float."""
    backend = open_backend("cupy")
    cupy = backend.cupy
    X, labels, params = case.arrays
    K = case.n_outputs
    with backend.context():
        rows = cupy.asarray(X)
        if X.dtype != params.dtype:
            rows = rows.astype(params.dtype) * params.dtype.type(case.input_scale)
        W, b = cupy.asarray(params[:-K].reshape(-1, K)), cupy.asarray(params[-K:])
        own = cupy.asarray(labels)[:, None] == cupy.arange(max(2, K))[-K:]
        own = own.astype(params.dtype)
        backend.synchronize()

    def launch() -> tuple[Array, Array]:
        with backend.context():
            z = rows @ W + b
            if K == 1:
                loss = cupy.logaddexp(0, z) - own * z
                residual = 1 / (1 + cupy.exp(-z)) - own
            else:
                z -= z.max(axis=1, keepdims=True)
                e = cupy.exp(z)
                total = e.sum(axis=1, keepdims=True)
                loss = cupy.log(total) - (z * own).sum(axis=1, keepdims=True)
                residual = e / total - own
            residual /= len(z)
            gradient = cupy.concatenate([(rows.T @ residual).ravel(), residual.sum(axis=0)])
            return loss.mean(dtype=cupy.float64), gradient

    def fetch(result: tuple[Array, Array]) -> tuple[float, Any]:
        with backend.context():
            return float(result[0]), result[1].get()

    return DeviceCall(launch, fetch, CupyClock(cupy))


def two_pass_numpy(case: PassCase) -> Call:
    """The pass as a textbook writes it in NumPy: two products with the whole X, as float."""
    X, labels, params = case.arrays
    K = case.n_outputs
    if X.dtype != params.dtype:
        X = X.astype(params.dtype) * params.dtype.type(case.input_scale)
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
        return float(loss.mean(dtype=np.float64)), gradient

    return call


def scikit_learn_pass(case: PassCase) -> Call:
    """scikit-learn's own objective and gradient, on all cores."""
    _floats_only(case)
    linear_loss = require("sklearn.linear_model._linear_loss")
    losses = require("sklearn._loss.loss")
    cores = require("joblib").cpu_count()
    X, labels, params = case.arrays
    K = case.n_outputs
    W, b = params[:-K].reshape(-1, K), params[-K:]
    if K == 1:
        model = linear_loss.LinearModelLoss(base_loss=losses.HalfBinomialLoss(), fit_intercept=True)
        coef = params.copy()
    else:
        base = losses.HalfMultinomialLoss(n_classes=K)
        model = linear_loss.LinearModelLoss(base_loss=base, fit_intercept=True)
        coef = np.asfortranarray(np.column_stack([W.T, b]))
    y = labels.astype(X.dtype)

    def call() -> tuple[float, Any]:
        value, gradient = model.loss_gradient(coef, X, y, n_threads=cores)
        if K > 1:
            gradient = np.concatenate([gradient[:, :-1].T.ravel(), gradient[:, -1]])
        return float(value), gradient

    return call


def torch_pass(case: PassCase, is_compiled: bool, device: str) -> Call:
    """PyTorch's linear layer, loss and autograd."""
    _floats_only(case)
    torch = torch_on(device)
    X, labels, params = case.arrays
    K = case.n_outputs
    rows = torch.from_numpy(X).to(device)
    target = torch.from_numpy(labels if K > 1 else labels.astype(X.dtype)).to(device)
    W = torch.from_numpy(params[:-K].reshape(-1, K).copy()).to(device).requires_grad_()
    b = torch.from_numpy(params[-K:].copy()).to(device).requires_grad_()
    functional = torch.nn.functional

    def loss_of(W: Any, b: Any) -> Any:
        z = rows @ W + b
        if K > 1:
            return functional.cross_entropy(z, target)
        return functional.binary_cross_entropy_with_logits(z[:, 0], target)

    forward = compiled(loss_of) if is_compiled else loss_of

    def launch() -> tuple[Any, Any]:
        W.grad = b.grad = None
        loss = forward(W, b)
        loss.backward()
        return loss.detach(), torch.cat([W.grad.ravel(), b.grad])

    def fetch(result: tuple[Any, Any]) -> tuple[float, Any]:
        return float(result[0]), result[1].cpu().numpy()

    launch = quiet(launch) if is_compiled else launch
    if device == "cuda":
        return DeviceCall(launch, fetch, TorchClock(torch))
    return lambda: fetch(launch())


def accel_predict(case: PassCase, backend_name: str) -> Call:
    """Labels of every row by accel, X already on the device."""
    model = _fitted(LogisticRegression(), case)
    model.input_scale_ = case.input_scale
    backend = open_backend(backend_name)
    with backend.context():
        X = backend.asarray(case.arrays[0])
    return lambda: backend.to_numpy(model.predict(X))


def scikit_learn_predict(case: PassCase) -> Call:
    """Labels of every row by scikit-learn."""
    from sklearn.linear_model import LogisticRegression as Peer

    _floats_only(case)
    model = _fitted(Peer(), case)
    X = case.arrays[0]
    return lambda: model.predict(X)


def _fitted(model: Any, case: PassCase) -> Any:
    """A model with the case's params for its coefficients."""
    params, K = case.arrays[2], case.n_outputs
    model.classes_ = np.arange(max(2, K))
    model.coef_ = np.ascontiguousarray(params[:-K].reshape(-1, K).T)
    model.intercept_ = params[-K:]
    model.n_features_in_ = case.n_features
    return model


PASSES: dict[str, Callable[[PassCase], Call]] = {
    "accel numpy": lambda case: accel_pass(case, open_backend("numpy")),
    "accel numpy, no numba": lambda case: accel_pass(case, _RowBlocks()),
    "accel cupy": lambda case: accel_pass(case, open_backend("cupy")),
    "CuPy, two products": cupy_two_products,
    "two-pass NumPy": two_pass_numpy,
    "scikit-learn": scikit_learn_pass,
    "PyTorch": partial(torch_pass, is_compiled=False, device="cpu"),
    "PyTorch cuda": partial(torch_pass, is_compiled=False, device="cuda"),
}
DEVICE_CONTENDERS = ("accel cupy", "CuPy, two products", "PyTorch cuda")
COMPILED_PASSES: dict[str, Callable[[PassCase], Call]] = {  # they take half a minute to compile
    "PyTorch compiled": partial(torch_pass, is_compiled=True, device="cpu"),
    "PyTorch compiled cuda": partial(torch_pass, is_compiled=True, device="cuda"),
}
PREDICTIONS: dict[str, Callable[[PassCase], Call]] = {
    "accel numpy": partial(accel_predict, backend_name="numpy"),
    "accel cupy": partial(accel_predict, backend_name="cupy"),
    "scikit-learn": scikit_learn_predict,
}
