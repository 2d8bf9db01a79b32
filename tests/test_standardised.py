from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from accel import LogisticRegression
from accel.backends import get_backend
from accel.conditioning import Standardised, look, row_space
from accel.losses import LOSSES
from accel.network import Network
from accel.objective import Objective
from accel.solvers import plan
from accel.solvers.curvature import hessian, metric
from accel.solvers.planning import choose
from tests.closeness import assert_close
from tests.test_conditioning import wide
from tests.test_objective import make, problem


def standard(backend, rng, *, n_classes, bias=True, reduce=False, alpha=0.01):
    X, labels = wide(rng, n_classes=n_classes) if reduce else problem(rng, n_classes=n_classes)
    weights = rng.uniform(0.5, 2, len(X))
    objective = make(
        backend, X, labels, n_classes=n_classes, weights=weights, bias=bias, alpha=alpha
    )
    start = backend.asarray((0 if reduce else 1 / 30) * rng.normal(size=objective.network.n_params))
    inner = row_space(objective, start, 10_000) if reduce else objective
    linear = inner.reduced if reduce else objective
    mean = backend.asarray(rng.normal(size=linear.network.n_in)) if bias else None
    scale = backend.asarray(rng.uniform(0.1, 3, linear.network.n_in))
    return objective, Standardised(inner, linear, inner.start if reduce else start, mean, scale)


@pytest.mark.parametrize("reduce", [False, True], ids=["full", "row space"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_it_is_exact_for_any_mean_and_scale(backend, rng, n_classes, bias, reduce):
    objective, here = standard(backend, rng, n_classes=n_classes, bias=bias, reduce=reduce)
    params = here.start + 0.1 * backend.asarray(rng.normal(size=here.start.shape[0]))
    value, gradient = here.value_and_grad(params)
    full_value, full_gradient = objective.value_and_grad(here.expand(params))
    assert_close(backend, value, backend.to_numpy(full_value), kind="elementwise", scale=10)
    exact = float(np.abs(backend.to_numpy(full_gradient)).max())
    certified = float(backend.to_numpy(here.certify(params, value, gradient)[1]))
    assert certified == pytest.approx(exact, rel=1e-8)
    assert float(backend.to_numpy(here.error(params, gradient))) <= exact * (1 + 1e-8)
    h = 1e-6
    for k in rng.integers(0, params.shape[0], 5):
        e = backend.asarray(h * (np.arange(params.shape[0]) == k))
        up, down = (here.value_and_grad(params + sign * e)[0] for sign in (1, -1))
        slope = float(backend.to_numpy(up - down)) / (2 * h)
        assert slope == pytest.approx(float(backend.to_numpy(gradient)[k]), abs=1e-7)


def test_the_start_is_where_the_user_put_it(backend, rng, monkeypatch):
    monkeypatch.setattr("accel.solvers.planning._is_worse_than_zero", lambda *_: False)
    X, labels = problem(rng, n_classes=3)
    objective = make(backend, X, labels, n_classes=3)
    start = rng.normal(size=objective.network.n_params)
    way = plan(objective, backend.asarray(start), "lbfgs", learning_rate=1.0, max_iter=5)
    assert_close(backend, way.problem.expand(way.start), start)


@pytest.mark.parametrize("reduce", [False, True], ids=["full", "row space"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_second_order_model_is_the_derivative_of_the_gradient(
    backend, rng, n_classes, bias, reduce
):
    """Products and the whole Hessian against differences of gradients."""
    _, here = standard(backend, rng, n_classes=n_classes, bias=bias, reduce=reduce)
    params = here.start + 0.1 * backend.asarray(rng.normal(size=here.start.shape[0]))
    model, H = here.quadratic(params), backend.to_numpy(hessian(here.quadratic(params)))
    assert np.abs(H - H.T).max() <= 1e-12 * np.abs(H).max()
    v = rng.normal(size=params.shape[0])
    value, product = model.value_and_grad(backend.asarray(v))
    h = 1e-5
    up, down = (here.value_and_grad(params + s * h * backend.asarray(v))[1] for s in (1, -1))
    wanted = backend.to_numpy(up - down) / (2 * h)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(backend.to_numpy(product), wanted, atol=1e-5 * scale)
    np.testing.assert_allclose(H @ v, wanted, atol=1e-5 * scale)
    assert float(backend.to_numpy(value)) == pytest.approx(v @ H @ v / 2, rel=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_metric_of_all_rows_is_newtons_method_for_one_output(backend, rng, monkeypatch, bias):
    monkeypatch.setattr("accel.solvers.curvature.ROWS_PER_FEATURE", (100, 100))
    _, here = standard(backend, rng, n_classes=2, bias=bias)
    model = here.quadratic(here.start)
    g = rng.normal(size=here.start.shape[0])
    wanted = np.linalg.solve(backend.to_numpy(hessian(model)), g)
    got = backend.to_numpy(metric(model)(backend.asarray(g)))
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-9 * np.abs(wanted).max())


def test_metric_from_a_sample_of_rows_is_near_the_whole(backend, rng):
    X, labels = problem(rng, n=4000, d=5)
    objective = make(backend, X, labels, alpha=1e-3)
    here = Standardised(objective, objective, backend.asarray(np.zeros(6)), None, None)
    model = here.quadratic(here.start)
    g = rng.normal(size=6)
    got = backend.to_numpy(metric(model)(backend.asarray(g)))
    wanted = np.linalg.solve(backend.to_numpy(hessian(model)), g)
    assert np.abs(got - wanted).max() < 0.5 * np.abs(wanted).max()
    assert np.abs(got - wanted).max() > 0  # it is a sample


def columns_of(backend, X, weights, factor=1.0):
    loss = LOSSES["logistic"]
    s = backend.asarray(weights / weights.sum())
    return look(
        Objective(
            X if sparse.issparse(X) else backend.asarray(X),
            backend.asarray(loss.encode_target(np.arange(X.shape[0]) % 2)),
            s,
            loss=loss,
            network=Network(X.shape[1], 1),
            alpha=0.0,
            backend=backend,
            input_scale=factor,
        )
    )


@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_columns_are_weighted_and_scaled(backend, rng, dtype):
    X = rng.integers(0, 255, (50, 6)).astype(dtype)
    weights = rng.uniform(0, 2, 50)
    found = columns_of(backend, X, weights, 0.5)
    mean = np.average(X, axis=0, weights=weights)
    spread = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    assert_close(backend, found.mean, 0.5 * mean, scale=100)
    assert_close(backend, found.spread, 0.5 * spread, scale=100)


def test_columns_of_a_sparse_matrix(rng):
    X = sparse.random_array((60, 8), density=0.3, rng=1, format="csr")
    weights = rng.uniform(0, 2, 60)
    here, there = (columns_of(get_backend("numpy"), Z, weights) for Z in (X, X.toarray()))
    np.testing.assert_allclose(here.mean, there.mean)
    np.testing.assert_allclose(here.spread, there.spread)


@pytest.mark.parametrize("magnitude", [1e-160, 1e160])
def test_columns_of_extreme_size_do_not_overflow(backend, rng, magnitude):
    X = rng.normal(size=(40, 3))
    found = columns_of(backend, X * magnitude, np.ones(40))
    wanted = backend.to_numpy(columns_of(backend, X, np.ones(40)).spread)
    np.testing.assert_allclose(backend.to_numpy(found.spread) / magnitude, wanted, rtol=1e-9)


def test_an_offset_of_the_columns_costs_no_iterations(rng):
    """The same data, moved: as many updates, the same coefficients, another intercept."""
    X, labels = problem(rng, n=400)
    for solver in ("lbfgs", "newton-cg", "newton-cholesky"):
        near = LogisticRegression(tol=1e-8, solver=solver).fit(X, labels)
        far = LogisticRegression(tol=1e-8, solver=solver).fit(X + 1000.0, labels)
        assert abs(int(far.n_iter_[0]) - int(near.n_iter_[0])) <= 3
        np.testing.assert_allclose(far.coef_, near.coef_, rtol=1e-4, atol=1e-6)
        moved = near.intercept_ - 1000.0 * near.coef_.sum()
        np.testing.assert_allclose(far.intercept_, moved, rtol=1e-4)


def planned(objective, n_params, solver):
    return plan(objective, np.zeros(n_params), solver, learning_rate=0.1, max_iter=5)


def test_gradient_descent_keeps_the_users_coordinates(rng):
    X, labels = problem(rng)
    objective = make(get_backend("numpy"), X, labels)
    assert planned(objective, 8, "gd").problem is objective
    way = planned(objective, 8, "lbfgs")
    assert way.problem.mean is not None
    assert way.problem.scale is None
    without = make(get_backend("numpy"), X, labels, bias=False)
    assert planned(without, 7, "lbfgs").problem.mean is None
    X[:, 2] *= 1e6
    uneven = planned(make(get_backend("numpy"), X, labels), 8, "lbfgs")
    assert uneven.problem.scale is not None
    assert any("Scaled columns" in reason for reason in uneven.reasons)


def test_the_solver_follows_from_the_shape(rng):
    for (n, d, K), wanted in {
        (150, 4, 3): "newton-cholesky",
        (1797, 64, 10): "newton-cg",
        (300_000, 50, 2): "newton-cg",
        (500, 200, 2): "lbfgs",
        (2062, 2062, 10): "lbfgs",
    }.items():
        name, why = choose(n, Network(d, 1 if K == 2 else K))
        assert name == wanted
        assert name in why
