"""Who is measured: accel on each backend and its peers, each ready to be called again and again.

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
from accel.benchmark.cases import CVCase, FitCase, LessonCase, PassCase
from accel.benchmark.needs import Absent, Call, compiled, open_backend, quiet, require, torch_on
from accel.estimators import LogisticRegression, LogisticRegressionCV
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

    def linear_pass(self, loss: str, X: Any, n_outputs: int) -> None:  # noqa: ARG002
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

    def call() -> tuple[float, Any]:
        with backend.context():
            value, gradient = objective.value_and_grad(start)
            return backend.scalars(value)[0], backend.to_numpy(gradient)

    return call


def two_pass_numpy(case: PassCase) -> Call:
    """The pass as a textbook writes it in NumPy: two products with the whole X, as float."""
    X, labels, params = case.arrays
    K = case.n_outputs
    if case.dtype in ("uint8", "float16"):
        X = X.astype(np.float32) * np.float32(case.input_scale)
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

    def call() -> tuple[float, Any]:
        W.grad = b.grad = None
        loss = forward(W, b)
        loss.backward()
        gradient = torch.cat([W.grad.ravel(), b.grad]).cpu().numpy()
        return float(loss.detach()), gradient

    return quiet(call) if is_compiled else call


def accel_fit(case: FitCase, backend_name: str) -> Call:
    """A full fit with accel's defaults."""
    open_backend(backend_name)
    X, y = case.data
    model = LogisticRegression(C=case.C, tol=case.tol, backend=backend_name)
    return quiet(lambda: model.fit(X, y))


def scikit_learn_fit(case: FitCase, solver: str) -> Call:
    """A full fit with one of scikit-learn's solvers."""
    from sklearn.linear_model import LogisticRegression as Peer

    X, y = case.data
    model = Peer(C=case.C, tol=case.tol, max_iter=10_000, solver=solver)
    return quiet(lambda: model.fit(X, y))


def scikit_learn_cupy_fit(case: FitCase) -> Call:
    """scikit-learn's lbfgs on CuPy arrays through its array API support."""
    backend = open_backend("cupy")
    sklearn = require("sklearn")
    from sklearn.linear_model import LogisticRegression as Peer

    X, y = case.data
    with backend.context():
        there, target = backend.asarray(X), backend.asarray(y)
    model = Peer(C=case.C, tol=case.tol, max_iter=10_000, solver="lbfgs")

    def call() -> Any:
        with sklearn.config_context(array_api_dispatch=True), backend.context():
            model.fit(there, target)
            model.coef_ = backend.to_numpy(backend.asarray(model.coef_))
            model.intercept_ = backend.to_numpy(backend.asarray(model.intercept_))
        return model

    return quiet(call)


def scikit_learn_intelex_fit(case: FitCase) -> Call:
    """Intel's extension for scikit-learn."""
    module = require("sklearnex.linear_model")
    X, y = case.data
    model = module.LogisticRegression(C=case.C, tol=case.tol, max_iter=10_000)
    return quiet(lambda: model.fit(X, y))


def torch_fit(case: FitCase, device: str, max_iter: int = 1000) -> Call:
    """torch.optim.LBFGS with strong Wolfe line search, to the same max|gradient|."""
    torch = torch_on(device)
    X, y = case.data
    K = int(y.max()) + 1
    rows, target = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    outputs = 1 if K == 2 else K
    functional = torch.nn.functional

    def call() -> Any:
        W = torch.zeros(X.shape[1], outputs, dtype=rows.dtype, device=device, requires_grad=True)
        b = torch.zeros(outputs, dtype=rows.dtype, device=device, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [W, b], max_iter=max_iter, tolerance_grad=case.tol, tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> Any:
            optimizer.zero_grad()
            z = rows @ W + b
            loss = (
                functional.binary_cross_entropy_with_logits(z[:, 0], target.to(rows.dtype))
                if K == 2
                else functional.cross_entropy(z, target)
            )
            loss = loss + (W * W).sum() / (2 * case.C * len(X))
            loss.backward()
            return loss

        optimizer.step(closure)
        model = LogisticRegression()
        model.coef_ = W.detach().cpu().numpy().T
        model.intercept_ = b.detach().cpu().numpy()
        model.n_iter_ = np.array([optimizer.state_dict()["state"][0]["n_iter"]])
        return model

    return call


def accel_cv(case: CVCase, backend_name: str) -> Call:
    """All folds and C values together, and the refit."""
    open_backend(backend_name)
    X, y = case.data
    model = LogisticRegressionCV(Cs=case.n_Cs, cv=case.n_folds, backend=backend_name)
    return quiet(lambda: model.fit(X, y))


def scikit_learn_cv(case: CVCase, n_threads: int | None) -> Call:
    """scikit-learn's LogisticRegressionCV with its defaults, on all cores or on one."""
    from sklearn.linear_model import LogisticRegressionCV as Peer
    from threadpoolctl import threadpool_limits

    X, y = case.data
    model = Peer(Cs=case.n_Cs, cv=case.n_folds, l1_ratios=(0.0,), use_legacy_attributes=False)
    limited = threadpool_limits.wrap(limits=n_threads)
    return quiet(limited(lambda: model.fit(X, y)))


def accel_lesson(case: LessonCase, backend_name: str) -> Call:
    """The lesson's fit by accel's gradient descent."""
    open_backend(backend_name)
    X, y = case.data
    model = LogisticRegression(
        C=float("inf"), solver="gd", learning_rate=case.learning_rate, max_iter=case.n_iter,
        tol=0.0, backend=backend_name,
    )  # fmt: skip
    start = np.full((1, X.shape[1]), 0.01)
    X = X.astype(np.float64)

    def call() -> float:
        model.fit(X, y, coef_init=start)
        return float(model.objective_)

    return quiet(call)


def lesson_as_printed(case: LessonCase) -> Call:
    """The lesson's loop as lessons print it: columns are samples, float32 images, float64 w."""
    images, y = case.data
    x_train = images.T
    n = x_train.shape[1]

    def call() -> float:
        w, b = np.full((x_train.shape[0], 1), 0.01), 0.0
        for _ in range(case.n_iter + 1):
            z = np.dot(w.T, x_train) + b
            head = 1 / (1 + np.exp(-z))
            cost = float(np.sum(-y * np.log(head) - (1 - y) * np.log(1 - head)) / n)
            d_w = np.dot(x_train, (head - y).T) / n
            d_b = float(np.sum(head - y)) / n
            w, b = w - case.learning_rate * d_w, b - case.learning_rate * d_b
        return cost

    return call


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
    "two-pass NumPy": two_pass_numpy,
    "scikit-learn": scikit_learn_pass,
    "PyTorch": partial(torch_pass, is_compiled=False, device="cpu"),
    "PyTorch cuda": partial(torch_pass, is_compiled=False, device="cuda"),
}
COMPILED_PASSES: dict[str, Callable[[PassCase], Call]] = {  # they take half a minute to compile
    "PyTorch compiled": partial(torch_pass, is_compiled=True, device="cpu"),
    "PyTorch compiled cuda": partial(torch_pass, is_compiled=True, device="cuda"),
}
FIT_CONTENDERS: dict[str, Callable[[FitCase], Call]] = {
    "accel numpy": partial(accel_fit, backend_name="numpy"),
    "accel cupy": partial(accel_fit, backend_name="cupy"),
    "scikit-learn lbfgs": partial(scikit_learn_fit, solver="lbfgs"),
    "scikit-learn newton-cg": partial(scikit_learn_fit, solver="newton-cg"),
    "scikit-learn newton-cholesky": partial(scikit_learn_fit, solver="newton-cholesky"),
    "scikit-learn lbfgs on CuPy": scikit_learn_cupy_fit,
    "scikit-learn-intelex": scikit_learn_intelex_fit,
    "PyTorch LBFGS": partial(torch_fit, device="cpu"),
    "PyTorch LBFGS cuda": partial(torch_fit, device="cuda"),
}
CV_CONTENDERS: dict[str, Callable[[CVCase], Call]] = {
    "accel numpy": partial(accel_cv, backend_name="numpy"),
    "accel cupy": partial(accel_cv, backend_name="cupy"),
    "scikit-learn, one thread": partial(scikit_learn_cv, n_threads=1),
    "scikit-learn": partial(scikit_learn_cv, n_threads=None),
}
LESSONS: dict[str, Callable[[LessonCase], Call]] = {
    "accel numpy": partial(accel_lesson, backend_name="numpy"),
    "accel cupy": partial(accel_lesson, backend_name="cupy"),
    "as printed": lesson_as_printed,
}
PREDICTIONS: dict[str, Callable[[PassCase], Call]] = {
    "accel numpy": partial(accel_predict, backend_name="numpy"),
    "accel cupy": partial(accel_predict, backend_name="cupy"),
    "scikit-learn": scikit_learn_predict,
}
