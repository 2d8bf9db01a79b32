"""The l1 penalty where columns depend on each other: to the minimum, with a gap, in no time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.preprocessing import PolynomialFeatures

from accel import LogisticRegression, Status
from accel.solvers.signs import signed_minimum


def _squares():
    X, y = load_breast_cancer(return_X_y=True)
    return PolynomialFeatures(2).fit_transform(X[:, :10]), y


def _iris(degree):
    X, y = load_iris(return_X_y=True)
    return PolynomialFeatures(degree).fit_transform(X), y


def _wine():
    X, y = load_wine(return_X_y=True)
    return PolynomialFeatures(2).fit_transform(X), y


# rows and labels, and the objective that coordinate descent in scaled columns comes to
COLLINEAR = {
    "iris, degree 3": (lambda: _iris(3), 0.0486094),
    "iris, degree 5": (lambda: _iris(5), 0.01575),
    "breast cancer, squares": (_squares, 0.0919412),
    "wine, squares": (_wine, 0.000518869),
}


def violation(model, X, y, alpha, l1):
    """Largest component of the subgradient of least norm, in float64 NumPy."""
    X, W = X.astype(float), model.coef_.astype(float)
    Z = X @ W.T + model.intercept_
    if len(W) == 1:
        R = (1 / (1 + np.exp(-Z[:, 0])) - y)[:, None]
    else:
        R = np.exp(Z - Z.max(axis=1, keepdims=True))
        R /= R.sum(axis=1, keepdims=True)
        R[np.arange(len(y)), y] -= 1
    G = (R / len(y)).T @ X + alpha * W
    at_zero = np.maximum(np.abs(G) - l1, 0)
    return max(np.where(W != 0, np.abs(G + l1 * np.sign(W)), at_zero).max(), abs(R.mean()))


@pytest.mark.parametrize("name", COLLINEAR)
@pytest.mark.parametrize("tol", [1e-4, 1e-8])
def test_collinear_columns_reach_the_minimum(name, tol):
    make, value = COLLINEAR[name]
    X, y = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticRegression(l1_ratio=1.0, backend="numpy", tol=tol).fit(X, y)
    is_rounding = tol == 1e-8 and model.status_ is Status.ROUNDING  # columns of 6e6
    assert model.status_ is Status.CONVERGED or is_rounding
    assert model.objective_ <= value * (1 + (1e-3 if tol == 1e-4 else 1e-4))
    assert violation(model, X, y, 0.0, 1 / len(y)) <= (1e-4 if is_rounding else tol * (1 + 1e-6))
    assert np.mean(model.coef_ == 0) > 0.5
    if tol == 1e-8 and not is_rounding:
        assert model.gap_ <= 1e-6
    assert model.n_iter_[0] < 60


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_columns_that_add_up_to_another(seed, l1_ratio):
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(300, 6))
    X = np.c_[G, G[:, 0] + G[:, 1]]
    y = (X @ np.linspace(-1, 1, 7) + rng.logistic(size=300) > 0).astype(int)
    model = LogisticRegression(l1_ratio=l1_ratio, C=1e4, backend="numpy").fit(X, y)
    assert model.status_ is Status.CONVERGED
    peer = Peer(l1_ratio=1.0, C=1e4, solver="liblinear", tol=1e-8, intercept_scaling=1e4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(X, y)
    z = X @ peer.coef_[0] + peer.intercept_[0]
    loss = np.mean(np.logaddexp(0, z) - y * z)
    assert model.objective_ <= loss + np.abs(peer.coef_).sum() / (1e4 * 300) + 1e-5


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_many_outputs(dtype):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(dtype)
    model = LogisticRegression(l1_ratio=1.0, backend="numpy").fit(X, y)
    assert model.status_ is Status.CONVERGED
    assert violation(model, X, y, 0.0, 1 / len(y)) <= 1.1e-4
    assert "Newton on what the l1 penalty leaves" in model.explain()


def test_repeated_columns_share_or_leave_the_weight():
    X, y = load_iris(return_X_y=True)
    one = LogisticRegression(l1_ratio=1.0, backend="numpy", tol=1e-9).fit(X, y)
    twice = LogisticRegression(l1_ratio=1.0, backend="numpy", tol=1e-9).fit(np.c_[X, X], y)
    assert twice.objective_ == pytest.approx(one.objective_, rel=1e-9)
    np.testing.assert_allclose(twice.coef_[:, :4] + twice.coef_[:, 4:], one.coef_, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 12),
    rank=st.integers(1, 14),
    seed=st.integers(0, 10**6),
    strength=st.sampled_from([0.0, 1e-3, 0.1, 10.0]),
)
def test_the_quadratic_is_minimised(m, rank, seed, strength):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(rank, m))
    H, start = A.T @ A, rng.normal(size=m) * (rng.random(m) < 0.5)
    g = A.T @ rng.normal(size=rank)  # in the range of H: bounded below
    strengths = np.where(rng.random(m) < 0.8, strength, 0.0)
    w = signed_minimum(H, g, start, strengths)
    slope = g + H @ (w - start)
    size = 1e-6 * max(1.0, np.abs(g).max(), np.abs(H).max() * np.abs(w).max())
    at_zero = np.maximum(np.abs(slope) - strengths, 0)
    wrong = np.where(w != 0, np.abs(slope + strengths * np.sign(w)), at_zero)
    assert wrong.max() <= size
