from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from accel import LogisticRegression
from accel.conditioning import row_space
from accel.solvers.gd import GradientDescent
from accel.solvers.lbfgs import LBFGS
from tests.closeness import assert_close
from tests.strict import StrictBackend
from tests.test_objective import make, problem

BALANCE = "accel.conditioning.rowspace.BYTES_PER_FLOP"


def wide(rng, n=20, d=300, n_classes=2):
    X, labels = problem(rng, n=n, d=d, n_classes=n_classes)
    return X + 3.0, labels


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_value_gradient_and_certificate_are_those_of_the_full_problem(
    backend, rng, n_classes, bias
):
    X, labels = wide(rng, n_classes=n_classes)
    full = make(backend, X, labels, n_classes=n_classes, bias=bias)
    start = backend.asarray(rng.normal(size=full.network.n_params) / 30)
    reduced = row_space(full, start, 10_000)
    params = reduced.start + 0.1 * backend.asarray(rng.normal(size=reduced.start.shape[0]))
    value, gradient = reduced.value_and_grad(params)
    full_value, full_gradient = full.value_and_grad(reduced.expand(params))
    assert_close(backend, value, backend.to_numpy(full_value), kind="elementwise", scale=10)
    exact = float(np.abs(backend.to_numpy(full_gradient)).max())
    assert float(backend.to_numpy(reduced.certify(params, value, gradient)[1])) == pytest.approx(
        exact, rel=1e-9
    )
    assert float(backend.to_numpy(reduced.error(params, gradient))) <= exact * (1 + 1e-12)
    assert_close(backend, reduced.expand(reduced.start), backend.to_numpy(start))


@pytest.mark.parametrize("solver", [GradientDescent(1e-3), LBFGS()], ids=["gd", "lbfgs"])
@pytest.mark.parametrize("C", [np.inf, 0.5])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_iterates_are_the_same(rng, monkeypatch, solver, C, n_classes):
    X, labels = wide(rng, n_classes=n_classes)
    name = "gd" if isinstance(solver, GradientDescent) else "lbfgs"
    options = {"solver": name, "learning_rate": 1e-3, "C": C, "max_iter": 15, "tol": 0}
    start = np.full((1 if n_classes == 2 else n_classes, 300), 0.01) if np.isinf(C) else None
    models = []
    for balance in (1e-9, 1e9):  # always, never
        monkeypatch.setattr(BALANCE, balance)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            models.append(LogisticRegression(**options).fit(X, labels, coef_init=start))
    reduced, full = models
    np.testing.assert_allclose(reduced.loss_curve_, full.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(reduced.coef_, full.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(reduced.intercept_, full.intercept_, rtol=1e-6, atol=1e-9)
    assert reduced.gradient_norm_ == pytest.approx(full.gradient_norm_, rel=1e-5)


def test_tolerance_is_in_the_users_coordinates(rng, monkeypatch):
    monkeypatch.setattr(BALANCE, 1e-9)
    X, labels = wide(rng)
    model = LogisticRegression(tol=1e-6, C=1.0).fit(X, labels)
    z = (X @ model.coef_.T + model.intercept_)[:, 0]
    residual = (1 / (1 + np.exp(-z)) - labels) / len(X)
    gradient = np.r_[X.T @ residual + model.coef_[0] / len(X), residual.sum()]
    assert model.gradient_norm_ <= 1e-6
    assert model.gradient_norm_ == pytest.approx(np.abs(gradient).max(), rel=1e-4)


@pytest.mark.parametrize("offset", [100, 600])
def test_the_certificate_is_of_X_itself_in_float32(rng, monkeypatch, offset):
    monkeypatch.setattr(BALANCE, 1e-9)
    X = (rng.normal(size=(60, 400)) + offset).astype(np.float32)
    labels = np.arange(60) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(tol=3e-5).fit(X, labels)
    W, b = model.coef_[0].astype(float), float(model.intercept_[0])
    residual = (1 / (1 + np.exp(-(X.astype(float) @ W + b))) - labels) / 60
    gradient = np.r_[X.T.astype(float) @ residual + W / 60, residual.sum()]
    rounding = float(30 * offset * np.finfo(np.float32).eps)
    assert model.gradient_norm_ == pytest.approx(np.abs(gradient).max(), abs=rounding)
    assert (model.status_.name == "CONVERGED") == (model.gradient_norm_ <= 3e-5)


@pytest.mark.parametrize(("magnitude", "dtype"), [(1e20, "float32"), (1e170, "float64")])
def test_overflow_in_the_reduction_is_no_warning_and_no_failure(rng, magnitude, dtype):
    X = (rng.normal(size=(20, 4000)) * magnitude).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression().fit(X, np.arange(20) % 2)
    assert np.isfinite(model.coef_).all()
    assert model.objective_ <= np.log(2) * (1 + 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_storage_dtypes(rng, monkeypatch, dtype):
    X, labels = wide(rng)
    X = (X * 20 + 50).clip(0, 255).astype(dtype)
    models = []
    for balance in (1e-9, 1e9):
        monkeypatch.setattr(BALANCE, balance)
        models.append(LogisticRegression(input_scale=0.01, tol=1e-4).fit(X, labels))
    np.testing.assert_allclose(models[0].coef_, models[1].coef_, rtol=1e-2, atol=1e-3)
    assert models[0].objective_ == pytest.approx(models[1].objective_, rel=1e-4)


def test_it_is_refused_where_it_would_not_be_exact_or_would_not_pay(rng):
    from accel.backends import get_backend

    numpy = get_backend("numpy")
    X, labels = wide(rng)
    zero = np.zeros(301)
    assert row_space(make(numpy, X, labels), zero, 10_000) is not None
    assert row_space(make(numpy, X, labels), zero, 1) is None  # does not pay
    assert row_space(make(numpy, X.T[:, :19], np.arange(300) % 2), np.zeros(20), 10_000) is None
    assert row_space(make(numpy, X, labels, hidden=(3,)), np.zeros(1), 10_000) is None
    penalised = make(numpy, X, labels, alpha=0.1)
    assert row_space(penalised, zero, 10_000) is not None
    assert row_space(penalised, zero + 0.1, 10_000) is None
    twice = X.copy()
    twice[1] = twice[0]
    assert row_space(make(numpy, twice, labels), zero, 10_000) is None
    close = X.copy()
    close[1] = close[0] * (1 + 1e-9)
    assert row_space(make(numpy, close, labels), zero, 10_000) is None


def test_passes_are_over_the_small_matrix(rng):
    backend = StrictBackend()
    X, labels = wide(rng)
    full = make(backend, X, labels)
    reduced = row_space(full, backend.asarray(np.zeros(301)), 10_000)
    assert reduced.reduced.X.shape == (20, 20)
    assert reduced.start.shape == (21,)
