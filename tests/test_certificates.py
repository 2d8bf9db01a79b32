"""What a fit claims of its end, against float64 references that know nothing of accel."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize
from sklearn.datasets import load_breast_cancer, load_iris

from accel import LogisticRegression, LogisticRegressionCV, Status, logistic_path
from accel.penalties import duality_gap
from accel.solvers.line_search import Point, wolfe_search


def softmax_objective(coef, intercept, X, y, alpha):
    """The objective of scikit-learn divided by n, in float64."""
    Z = X @ coef.T.astype(float) + intercept
    if Z.shape[1] == 1:
        Z = np.c_[np.zeros(len(X)), Z]
    Z = Z - Z.max(axis=1, keepdims=True)
    loss = np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(len(y)), y]
    return loss.mean() + alpha / 2 * np.sum(coef.astype(float) ** 2)


def minimum(X, y, alpha):
    """The least value of the objective of softmax, by SciPy in the row space of centred columns."""
    X = X - X.mean(axis=0)
    L, K = (np.linalg.qr(X.T)[1].T if len(X) < X.shape[1] else X), y.max() + 1
    rows = np.arange(len(y))

    def function(params):
        V, b = params[:-K].reshape(L.shape[1], K), params[-K:]
        Z = L @ V + b
        Z -= Z.max(axis=1, keepdims=True)
        P = np.exp(Z)
        total = P.sum(axis=1, keepdims=True)
        value = np.mean(np.log(total[:, 0]) - Z[rows, y]) + alpha / 2 * np.sum(V * V)
        P /= total
        P[rows, y] -= 1
        P /= len(y)
        return value, np.r_[(L.T @ P + alpha * V).reshape(-1), P.sum(axis=0)]

    start = np.zeros((L.shape[1] + 1) * K)
    options = {"maxiter": 5000, "maxfun": 50_000, "maxcor": 50, "ftol": 0, "gtol": 1e-9}
    found = scipy_minimize(function, start, jac=True, method="L-BFGS-B", options=options)
    return found.fun


def saturated(n=200, d=600, K=20):
    """Many outputs and more columns than rows: the first Newton step saturates the loss."""
    rng = np.random.default_rng(0)
    M = rng.normal(size=(K, d))
    y = np.arange(n) % K
    return M[y] + 8 * rng.normal(size=(n, d)), y


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("solver", ["auto", "lbfgs", "newton-cg"])
def test_a_saturated_loss_is_walked_on_to_its_minimum(solver, dtype):
    X, y = saturated()
    X = X.astype(dtype)
    model = LogisticRegression(backend="numpy", solver=solver).fit(X, y)
    least = minimum(X.astype(float), y, 1 / len(y))
    found = softmax_objective(model.coef_, model.intercept_, X.astype(float), y, 1 / len(y))
    assert model.status_ is Status.CONVERGED
    assert least - 1e-9 <= found <= least * 1.01
    assert model.objective_ == pytest.approx(found, rel=1e-5)
    assert found - least <= model.gap_ + 1e-9


def test_a_path_and_its_folds_are_walked_on_as_well():
    X, y = saturated(n=120, d=300, K=12)
    path = logistic_path(X, y, [1.0, 100.0], backend="numpy")
    for k, C in enumerate(path.Cs):
        least = minimum(X, y, 1 / (C * len(y)))
        assert path.objective[k] <= least * 1.01
        assert path.objective[k] - least <= path.gap[k] + 1e-9
    model = LogisticRegressionCV(backend="numpy", Cs=[1.0], cv=2).fit(X, y)
    assert model.objective_ <= minimum(X, y, 1 / len(y)) * 1.01


def far_from_zero(offset, dtype):
    rng = np.random.default_rng(11)
    X0 = rng.normal(size=(400, 20))
    y = np.argmax(np.c_[X0[:, 0], X0[:, 1], -X0[:, 0]] * 2 + rng.gumbel(size=(400, 3)), axis=1)
    return (X0 + offset).astype(dtype), y


FAR = [(0.0, "float32"), (3e3, "float32"), (3e6, "float32"), (3e6, "float64"), (1e9, "float64"),
       (1e12, "float64")]  # fmt: skip


@pytest.mark.parametrize("solver", ["auto", "lbfgs", "newton-cholesky"])
@pytest.mark.parametrize(("offset", "dtype"), FAR)
def test_columns_far_from_zero_reach_the_minimum_of_what_they_hold(offset, dtype, solver):
    X, y = far_from_zero(offset, dtype)
    exact = X.astype(float) - offset  # of the stored numbers, exact
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticRegression(backend="numpy", solver=solver).fit(X, y)
    least = minimum(exact, y, 1 / len(y))
    assert model.status_ in (Status.CONVERGED, Status.ROUNDING)
    assert model.objective_ == pytest.approx(least, rel=1e-4)
    Z = exact @ model.coef_.T + (offset * model.coef_.astype(float).sum(axis=1) + model.intercept_)
    if offset < 1e10:
        assert model.score(X, y) == pytest.approx(np.mean(np.argmax(Z, axis=1) == y), abs=0.01)
        assert model.score(X, y) > 0.74


@pytest.mark.parametrize("fit", ["path", "CV"])
def test_so_do_paths_and_folds(fit):
    X, y = far_from_zero(3e6, "float32")
    least = minimum(X.astype(float) - 3e6, y, 1 / len(y))
    if fit == "path":
        assert logistic_path(X, y, [1.0], backend="numpy").objective[0] == pytest.approx(least)
        return
    model = LogisticRegressionCV(backend="numpy", Cs=[1.0], cv=3).fit(X, y)
    assert model.objective_ == pytest.approx(least, rel=1e-5)
    assert model.scores_.mean() > 0.7


@pytest.mark.parametrize("constant", [1e6, 1e7])
def test_a_large_constant_column_in_float32(constant):
    rng = np.random.default_rng(3)
    Z = rng.normal(size=(500, 5))
    y = (Z @ [1, -1, 0.5, 0, 0] + rng.logistic(size=500) > 0).astype(int)
    X = np.c_[Z, np.full(500, constant)].astype(np.float32)
    model = LogisticRegression(backend="numpy").fit(X, y)
    plain = LogisticRegression(backend="numpy", tol=1e-10).fit(X[:, :5].astype(float), y)
    assert model.objective_ == pytest.approx(plain.objective_, rel=1e-6)
    assert np.mean(model.predict(X) != plain.predict(X[:, :5])) < 0.005


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_the_gap_bounds_what_is_left_at_every_stage(C, dtype, l1_ratio):
    X, y = load_breast_cancer(return_X_y=True)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(dtype)
    best = LogisticRegression(C=C, l1_ratio=l1_ratio, backend="numpy", tol=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best.fit(X.astype(float), y)
        for max_iter in (1, 2, 3, 5, 50):
            model = LogisticRegression(
                C=C, l1_ratio=l1_ratio, backend="numpy", max_iter=max_iter
            ).fit(X, y)
            assert model.objective_ - best.objective_ <= model.gap_ + 1e-12
            assert model.gap_ <= model.objective_


@pytest.mark.parametrize("l1", [0.0, 0.03])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_the_gap_is_that_of_a_dual_point(l1, alpha, rng):
    """Ridge regression with l1 by its definition: primal minus dual at the residuals."""
    X, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    w = rng.normal(size=4) * (rng.random(4) < 0.7)
    r = (X @ w - y) / 30
    gradient = X.T @ r + alpha * w
    penalties = alpha / 2 * w @ w + l1 * np.abs(w).sum()
    value = 15 * r @ r + penalties
    ridge, strengths = np.full(4, alpha), np.full(4, l1)
    gap = duality_gap(w, value, gradient, ridge, strengths if l1 else None, xp=np)
    if alpha == l1 == 0:
        assert gap == np.inf
        return
    theta = 1.0 if alpha else min(1.0, l1 / np.abs(X.T @ r).max())
    u = theta * r  # a dual point: value at least -(15 |u|^2 + u'y) less the penalty's conjugate
    v = -X.T @ u
    conjugate = np.sum(np.maximum(np.abs(v) - l1, 0) ** 2) / (2 * alpha) if alpha else 0.0
    dual = -(15 * u @ u + u @ y) - conjugate
    assert gap >= value - dual - 1e-12
    if alpha:
        assert gap == pytest.approx(value - dual, rel=1e-9)


def test_separable_classes_without_penalty_are_said_to_be():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(C=np.inf, backend="numpy").fit(X[:100], y[:100])
    assert model.status_ is Status.SEPARABLE
    assert "no penalty holds the coefficients" in model.explain()
    assert model.gap_ == model.objective_


def test_the_certificate_is_of_the_value_in_float64():
    X, y = load_breast_cancer(return_X_y=True)
    X = X.astype(np.float32)
    model = LogisticRegression(backend="numpy", C=1e-3).fit(X, y)
    alpha = 1 / (1e-3 * len(y))
    found = softmax_objective(model.coef_, model.intercept_, X.astype(float), y, alpha)
    assert model.objective_ == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("solver", ["auto", "lbfgs", "newton-cg", "newton-cholesky"])
def test_float32_with_a_tolerance_below_its_rounding_goes_on_in_float64(solver):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(backend="numpy", solver=solver, tol=1e-9).fit(
        X.astype(np.float32), y
    )
    assert model.status_ in (Status.CONVERGED, Status.ROUNDING)
    wanted = LogisticRegression(backend="numpy", tol=1e-10).fit(
        X.astype(np.float32).astype(float), y
    )
    assert model.objective_ == pytest.approx(wanted.objective_, rel=1e-10)
    assert "Arithmetic in float64" in model.explain()


def test_a_step_into_saturation_is_shortened():
    """log(1 + exp(-20 t)) + 0.001 t^2: at t = 1 all that is left is the penalty's slope."""

    def at(t):
        value = np.log1p(np.exp(-20 * t)) + 0.5 * t * t
        return Point(t, value, -20 / (1 + np.exp(20 * t)) + t)

    found = wolfe_search(at, at(0.0), at(1.0), rounding=0.0)
    assert found.step < 0.5
    assert found.value < at(1.0).value / 2


def test_explain_and_the_report_show_the_bound():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(backend="numpy").fit(X, y)
    assert "above the minimum" in " ".join(model.explain().split())
