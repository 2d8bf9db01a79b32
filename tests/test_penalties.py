from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.preprocessing import scale

from accel import LogisticRegression, Status
from accel.backends import get_backend
from accel.penalties import minimum_norm_subgradient
from tests.closeness import assert_close
from tests.test_objective import make, problem


def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def binary():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X), y


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("data", [digits, binary], ids=["digits", "breast cancer"])
def test_coefficients_and_zeros_are_those_of_saga(data, l1_ratio):
    X, y = data()
    X, y = X[:600], y[:600]
    ours = LogisticRegression(C=0.05, l1_ratio=l1_ratio, tol=1e-10).fit(X, y)
    theirs = Peer(C=0.05, l1_ratio=l1_ratio, solver="saga", tol=1e-11, max_iter=20_000)
    theirs.fit(X, y)
    assert ours.status_ is Status.CONVERGED
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-5)
    assert ((ours.coef_ == 0) == (theirs.coef_ == 0)).mean() > 0.99
    assert (ours.coef_ == 0).any()


def test_l1_without_intercept_is_liblinears(rng):
    X, y = problem(rng, n=300)
    ours = LogisticRegression(C=0.1, l1_ratio=1.0, tol=1e-10, fit_intercept=False).fit(X, y)
    theirs = Peer(C=0.1, l1_ratio=1.0, solver="liblinear", tol=1e-12, fit_intercept=False)
    theirs.set_params(max_iter=100_000).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)


@pytest.mark.parametrize("load", [load_wine, load_iris, load_breast_cancer])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.3])
def test_it_converges_on_data_as_it_comes(load, l1_ratio):
    """The optimality conditions, in float64 NumPy, in the user's coordinates."""
    X, y = load(return_X_y=True)
    model = LogisticRegression(l1_ratio=l1_ratio, tol=1e-8).fit(X, y)
    assert model.status_ is Status.CONVERGED
    z = X @ model.coef_.T + model.intercept_
    z = np.hstack([np.zeros_like(z), z]) if z.shape[1] == 1 else z
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    R = (p - np.eye(p.shape[1])[y])[:, -len(model.intercept_) :] / len(X)
    g, strength = R.T @ X + (1 - l1_ratio) * model.coef_ / len(X), l1_ratio / len(X)
    zero = model.coef_ == 0
    assert np.abs(g[zero]).max(initial=0) <= strength + 1e-7
    np.testing.assert_allclose(g[~zero], -strength * np.sign(model.coef_[~zero]), atol=1e-7)
    np.testing.assert_allclose(R.sum(0), 0, atol=1e-8)
    penalty = strength * np.abs(model.coef_).sum()
    penalty += (1 - l1_ratio) / (2 * len(X)) * np.square(model.coef_).sum()
    loss = -np.log(p[np.arange(len(y)), y]).mean()
    assert model.objective_ == pytest.approx(loss + penalty, rel=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_backend_agrees(backend, rng, n_classes):
    X, y = problem(rng, n=200, n_classes=n_classes)
    weight = rng.uniform(0.5, 2, len(X))
    options = {"C": 0.1, "l1_ratio": 0.7, "tol": 1e-9}
    here = LogisticRegression(backend=backend.name, **options).fit(X, y, weight)
    there = LogisticRegression(backend="numpy", **options).fit(X, y, weight)
    np.testing.assert_allclose(here.coef_, there.coef_, rtol=1e-6, atol=1e-8)
    assert ((here.coef_ == 0) == (there.coef_ == 0)).all()
    more = LogisticRegression(**{**options, "l1_ratio": 0.2}).fit(X, y, weight)
    assert np.abs(more.coef_ - there.coef_).max() > 1e-3


def test_a_strong_penalty_leaves_only_the_intercept(rng):
    X, y = problem(rng)
    model = LogisticRegression(C=1e-4, l1_ratio=1.0, tol=1e-8).fit(X, y)
    assert (model.coef_ == 0).all()
    assert model.intercept_[0] == pytest.approx(np.log(y.mean() / (1 - y.mean())), abs=1e-6)


def test_float32_has_exact_zeros_too():
    X, y = digits()
    model = LogisticRegression(l1_ratio=1.0).fit(X.astype(np.float32), y)
    wide = LogisticRegression(l1_ratio=1.0).fit(X, y)
    assert model.status_ in (Status.CONVERGED, Status.ROUNDING)
    assert model.coef_.dtype == np.float32
    assert (model.coef_ == 0).sum() == pytest.approx((wide.coef_ == 0).sum(), abs=15)
    assert model.objective_ == pytest.approx(wide.objective_, rel=1e-4)


def test_no_penalty_leaves_l1_ratio_without_effect(rng):
    X, y = problem(rng)
    one, two = (
        LogisticRegression(C=np.inf, l1_ratio=ratio, tol=1e-9).fit(X, y) for ratio in (0, 1)
    )
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-6, atol=1e-8)


@given(seed=st.integers(0, 500))
def test_least_norm_subgradient_is_what_the_definition_says(seed):
    """The point of the interval g + l1 * d|w| that is nearest to zero, by clipping."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=9) * rng.integers(0, 2, 9)
    g, l1 = 2 * rng.normal(size=9), rng.uniform(0, 2, 9) * rng.integers(0, 2, 9)
    low = g + np.where(w > 0, l1, -l1)
    high = g + np.where(w < 0, -l1, l1)
    wanted = np.clip(0, low, high)
    np.testing.assert_allclose(minimum_norm_subgradient(w, g, l1, xp=np), wanted, atol=1e-15)


def test_the_objective_counts_the_l1_norm_and_not_the_intercept(backend, rng):
    X, y = problem(rng)
    plain = make(backend, X, y)
    plain.l1 = backend.asarray(0.5 * plain.network.is_weight())
    params = rng.normal(size=8)
    value, gradient = plain.value_and_grad(backend.asarray(params))
    bare, bare_gradient = make(backend, X, y).value_and_grad(backend.asarray(params))
    wanted = float(backend.to_numpy(bare)) + 0.5 * np.abs(params[:-1]).sum()
    assert float(backend.to_numpy(value)) == pytest.approx(wanted)
    assert_close(backend, gradient, backend.to_numpy(bare_gradient))
    assert get_backend("numpy").name == "numpy"
