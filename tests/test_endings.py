"""Every fit ends well: degenerate data, with default parameters and no warning unless it is due."""

from __future__ import annotations

import signal
import sys
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Peer

from accel import LogisticRegression, Status
from tests.test_objective import problem

GOOD = (Status.CONVERGED, Status.ROUNDING, Status.SEPARABLE)
SOLVERS = ["auto", "lbfgs", "newton-cg", "newton-cholesky"]


def one_each(rng, n_classes):
    return rng.normal(size=(n_classes, 5)), np.arange(n_classes)


def scales(rng):
    X, y = problem(rng, n=150)
    return X * np.geomspace(1e-6, 1e6, X.shape[1]), y


def duplicated(rng):
    X, y = problem(rng, n=150)
    return np.hstack([X, X[:, :3], X[:, :1] * 2]), y


def constant(rng):
    X, y = problem(rng, n=150)
    return np.hstack([X, np.zeros((150, 1)), np.full((150, 1), 7.0)]), y


def deficient(rng):
    X, y = problem(rng, n=150)
    return X @ rng.normal(size=(X.shape[1], 20)), y


def one_feature(rng):
    x = rng.normal(size=(80, 1))
    return x, (x[:, 0] + rng.logistic(size=80) > 0).astype(int)


def all_constant(rng):
    return np.full((40, 3), 5.0), np.arange(40) % 2


DATA = {
    "columns 1e12 apart": scales,
    "duplicated columns": duplicated,
    "constant columns": constant,
    "rank deficient": deficient,
    "one feature": one_feature,
    "nothing to learn from": all_constant,
    "one row a class, two": lambda rng: one_each(rng, 2),
    "one row a class, five": lambda rng: one_each(rng, 5),
}


@pytest.mark.parametrize("C", [1.0, 1e6])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", DATA)
def test_degenerate_data_reach_the_optimum_in_silence(rng, name, solver, C):
    X, y = DATA[name](rng)
    model = LogisticRegression(solver=solver, C=C).fit(X, y)
    best = LogisticRegression(solver="newton-cholesky", C=C, tol=1e-10).fit(X, y)
    assert model.status_ in GOOD
    assert np.isfinite(model.coef_).all()
    # 1e-4 is the largest gradient; the distance in the objective depends on the curvature
    assert model.objective_ <= best.objective_ + 1e-3


@pytest.mark.parametrize("name", ["duplicated columns", "constant columns", "rank deficient"])
def test_without_penalty_the_minimum_is_not_unique_and_still_reached(rng, name):
    X, y = DATA[name](rng)
    values = []
    for solver in SOLVERS:
        model = LogisticRegression(solver=solver, C=np.inf, tol=1e-8, max_iter=5000).fit(X, y)
        assert model.status_ in GOOD
        values.append(model.objective_)
    assert max(values) - min(values) < 1e-9


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_separable_data_without_penalty_end_with_finite_coefficients(rng, n_classes, solver, dtype):
    X = rng.normal(size=(60, 4)).astype(dtype)
    y = np.arange(60) % n_classes
    X[:, 0] += 10 * y
    model = LogisticRegression(C=np.inf, solver=solver).fit(X, y)
    assert model.status_ in GOOD
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.objective_)
    assert model.score(X, y) == 1.0


def test_separable_data_asked_for_the_impossible_say_so(rng):
    """tol=0 without penalty: the minimum lies at infinity, and the loss underflows on the way."""
    X = np.r_[rng.normal(size=(30, 2)) - 5, rng.normal(size=(30, 2)) + 5]
    y = np.repeat([0, 1], 30)
    for solver in SOLVERS:
        model = LogisticRegression(C=np.inf, tol=0, max_iter=300, solver=solver)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model.fit(X, y)
        assert [w.category for w in said] in ([], [ConvergenceWarning])
        assert all("max|gradient|" in str(w.message) for w in said)
        assert model.status_ in GOOD or said
        assert np.isfinite(model.coef_).all()
        assert model.objective_ < 1e-6


def test_a_thousand_classes(rng):
    centres = rng.normal(size=(1000, 8)) * 3
    y = np.repeat(np.arange(1000), 3)
    X = centres[y] + 0.1 * rng.normal(size=(3000, 8))
    model = LogisticRegression(C=10.0).fit(X, y)
    assert model.status_ in GOOD
    assert model.coef_.shape == (1000, 8)
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("solver", SOLVERS)
def test_zero_weights_are_removed_rows_however_many(rng, solver):
    X, y = problem(rng, n=3000, n_classes=3)
    weight = (np.arange(3000) % 10 == 3).astype(float)  # none of the sampled rows
    here = LogisticRegression(solver=solver, tol=1e-9).fit(X, y, weight)
    there = LogisticRegression(solver=solver, tol=1e-9).fit(X[3::10], y[3::10])
    np.testing.assert_allclose(here.coef_, there.coef_, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_coefficients_equal_scikit_learns_where_columns_are_uneven(rng, dtype):
    X, y = problem(rng, n=300, n_classes=3)
    X = X * np.geomspace(1e-2, 1e2, X.shape[1])
    ours = LogisticRegression(tol=1e-11 if dtype == "float64" else 1e-7)
    ours.fit(X.astype(dtype), y)
    theirs = Peer(solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, y)
    relative = np.linalg.norm(ours.coef_ - theirs.coef_) / np.linalg.norm(theirs.coef_)
    assert relative < (1e-6 if dtype == "float64" else 1e-4)


RAW = {
    "breast cancer": load_breast_cancer,
    "wine": load_wine,
    "iris": load_iris,
    "digits": load_digits,
}


@pytest.mark.parametrize("name", RAW)
def test_real_data_as_it_comes_needs_no_scaling_and_no_warning(name):
    """The optimum of scikit-learn's Newton method, in float64 to 1e-6, in float32 to 1e-4."""
    X, y = RAW[name](return_X_y=True)
    assert LogisticRegression().fit(X, y).status_ is Status.CONVERGED
    X = X.astype(np.float32)  # so that both precisions have the same minimum
    theirs = Peer(solver="newton-cholesky", tol=1e-12, max_iter=500).fit(X.astype(float), y)
    size = np.linalg.norm(theirs.coef_)
    double = LogisticRegression(tol=1e-11).fit(X.astype(float), y)
    single = LogisticRegression(tol=1e-8).fit(X, y)
    assert np.linalg.norm(double.coef_ - theirs.coef_) < 1e-6 * size
    assert np.linalg.norm(single.coef_ - theirs.coef_) < 1e-4 * size
    assert single.status_ in GOOD


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "CSR"])
@pytest.mark.parametrize("constant", [3e5, 1e9])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_large_constant_column_changes_nothing(rng, constant, form, solver):
    X, y = problem(rng, n=120)
    weight = rng.uniform(0.1, 2, 120)
    wanted = LogisticRegression(C=np.inf, tol=1e-8).fit(X, y, weight)
    beside = form(np.hstack([X, np.full((120, 1), constant)]))
    model = LogisticRegression(C=np.inf, tol=1e-5, solver=solver).fit(beside, y, weight)
    assert model.status_ in GOOD
    np.testing.assert_allclose(model.coef_[:, :-1], wanted.coef_, rtol=1e-2, atol=1e-3)
    assert model.objective_ == pytest.approx(wanted.objective_, rel=1e-6)


def test_sparse_columns_of_extreme_size(rng):
    X, y = problem(rng, n=120)
    wanted = LogisticRegression(C=np.inf).fit(X, y).objective_
    model = LogisticRegression(C=np.inf).fit(sparse.csr_array(X * 1e160), y)
    assert model.objective_ == pytest.approx(wanted, rel=1e-3)


def test_columns_that_are_all_alike_large_are_not_scaled_without_intercept(rng):
    X, y = problem(rng, n=120)
    words = LogisticRegression(fit_intercept=False).fit(X * 5000, y).explain()
    assert "Scaled columns" not in words


def true_gradient(model, X, y):
    """max|gradient| in float64 NumPy at the coefficients, two classes, C=1."""
    X = np.asarray(X, dtype=np.float64)
    z = X @ model.coef_[0].astype(float) + float(model.intercept_[0])
    residual = 1 / (1 + np.exp(-z)) - y
    g = X.T @ residual / len(y) + model.coef_[0] / len(y)
    return max(np.abs(g).max(), abs(residual.mean()))


@pytest.mark.parametrize("powers", [(0, 5), (-6, 6)])
def test_the_certificate_of_float32_is_taken_in_float64(rng, powers):
    X = (rng.normal(size=(400, 6)) * np.logspace(*powers, 6)).astype(np.float32)
    y = rng.integers(0, 2, 400)
    model = LogisticRegression().fit(X, y)
    assert model.gradient_norm_ == pytest.approx(true_gradient(model, X, y), rel=1e-6, abs=1e-9)
    assert (model.status_ is Status.CONVERGED) == (model.gradient_norm_ <= 1e-4)


@pytest.mark.parametrize("n", [400, 401, 1234])
def test_a_column_of_ones_beside_the_intercept(rng, n):
    X, y = problem(rng, n=n)
    wanted = LogisticRegression(C=np.inf, tol=1e-8).fit(X, y)
    model = LogisticRegression(C=np.inf, tol=1e-6).fit(np.c_[X, np.ones(n)], y)
    assert model.objective_ == pytest.approx(wanted.objective_, rel=1e-8)
    assert np.abs(model.coef_).max() < 10 * np.abs(wanted.coef_).max()


@pytest.mark.parametrize("solver", [*SOLVERS, "saga"])
@pytest.mark.parametrize("distance", [1e2, 1e4])
def test_a_start_far_away_is_no_obstacle(rng, solver, distance):
    X, y = problem(rng, n=200)
    ratio = 0.5 if solver == "saga" else 0.0
    wanted = LogisticRegression(l1_ratio=ratio, tol=1e-6).fit(X, y)
    far = rng.normal(size=(1, X.shape[1])) * distance
    model = LogisticRegression(l1_ratio=ratio, solver=solver, tol=1e-6).fit(X, y, None, far)
    assert model.objective_ == pytest.approx(wanted.objective_, rel=1e-6)
    assert "Start: zero" in model.explain()


def test_rounding_is_not_claimed_far_from_the_minimum():
    H = np.vander(np.linspace(0, 10, 1000), 12)
    noise = np.random.default_rng(1).normal(size=1000)
    y = (np.sin(H[:, -2]) + noise > 0).astype(int)
    best = LogisticRegression(C=np.inf).fit(H, y).objective_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(solver="lbfgs", C=np.inf).fit(H, y)
    assert model.status_ not in GOOD or model.objective_ < best * (1 + 1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_weak_penalty_on_bytes_does_not_drift_along_the_softmax(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.integers(0, 256, (500, 20)).astype(np.uint8), rng.integers(0, 5, 500)
    single = LogisticRegression(C=1e4).fit(X, y)
    double = LogisticRegression(C=1e4).fit(X.astype(float), y)
    assert single.status_ in GOOD
    assert np.abs(single.coef_.mean(axis=0)).max() < 1e-4
    np.testing.assert_allclose(single.coef_, double.coef_, atol=1e-3)


@pytest.mark.parametrize("C", [1e-60, 5e-324])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_vanishing_C_gives_zero_coefficients(rng, C, dtype):
    X, y = problem(rng)
    model = LogisticRegression(C=C).fit(X.astype(dtype), y)
    assert model.status_ in GOOD
    np.testing.assert_allclose(model.coef_, 0, atol=1e-20)


def test_an_interrupt_that_a_destructor_swallows_ends_the_fit_at_the_next_update(rng, monkeypatch):
    """Python prints what is raised in __del__ and goes on: the press would be lost."""

    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def press(progress):
        seen.append(progress.n_iter)
        if progress.n_iter == 2:
            Swallows()

    seen, swallowed = [], []
    X = rng.normal(size=(50, 3))
    model = LogisticRegression(solver="gd", max_iter=1000, tol=0.0, callback=press)
    # what runs in the background of a shell ignores it
    outer = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(sys, "unraisablehook", swallowed.append)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, np.arange(50) % 2)
    assert len(swallowed) == 1
    assert seen == [0, 1, 2]
    assert model.status_ is Status.INTERRUPTED
    assert signal.signal(signal.SIGINT, outer) is signal.default_int_handler
