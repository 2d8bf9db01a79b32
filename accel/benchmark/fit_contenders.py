"""Who is measured at whole fits: accel on each backend and its peers.

A contender takes a case and returns a callable that fits a model: the call is what is timed.
`Absent` says why one cannot run here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from accel.benchmark.array_api_process import in_array_api_process
from accel.benchmark.cases import CVCase, FitCase, LessonCase
from accel.benchmark.needs import Call, open_backend, quiet, require, torch_on
from accel.estimators import LogisticRegression, LogisticRegressionCV


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
    open_backend("cupy")
    return in_array_api_process(case)


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
