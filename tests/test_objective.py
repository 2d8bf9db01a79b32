from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.backends import get_backend
from accel.losses import LOSSES
from accel.network import Network
from accel.objective import Objective
from tests.closeness import assert_close


def make(
    backend,
    X,
    labels,
    *,
    weights=None,
    alpha=0.0,
    hidden=(),
    bias=True,
    dtype="float64",
    n_classes=None,
):
    n_classes = n_classes or int(labels.max()) + 1
    loss = LOSSES["logistic" if n_classes <= 2 else "softmax"]
    weights = np.ones(len(X)) if weights is None else weights
    X = X.astype(dtype)
    return Objective(
        backend.asarray(X),
        backend.asarray(loss.encode_target(labels)),
        backend.asarray((weights / weights.sum()).astype(dtype)),
        loss=loss,
        network=Network(X.shape[1], loss.n_outputs(n_classes), hidden, "tanh", bias),
        alpha=alpha,
        backend=backend,
    )


def problem(rng, n=203, d=7, n_classes=2):
    labels = np.r_[np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)]
    return rng.normal(size=(n, d)), labels


@pytest.mark.parametrize("hidden", [(), (5,)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_gradient_is_the_derivative(backend, rng, n_classes, bias, hidden):
    X, labels = problem(rng, n_classes=n_classes)
    weights = rng.uniform(0, 2, len(X))
    objective = make(backend, X, labels, weights=weights, alpha=0.3, hidden=hidden, bias=bias)
    params = rng.normal(size=objective.network.n_params)
    value, gradient = objective.value_and_grad(backend.asarray(params))
    assert value.shape == ()
    h = 1e-6

    def at(shifted):
        return float(backend.to_numpy(objective.value_and_grad(backend.asarray(shifted))[0]))

    wanted = [(at(params + h * e) - at(params - h * e)) / (2 * h) for e in np.eye(len(params))]
    assert_close(backend, gradient, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradient_against_plain_numpy(backend, rng, dtype):
    X, labels = problem(rng)
    params = rng.normal(size=8)
    weights = rng.uniform(0.1, 2, len(X))
    z = X @ params[:7] + params[7]
    y, s = labels, weights / weights.sum()
    value = np.sum(s * (np.logaddexp(0, z) - y * z)) + 0.05 * np.sum(params[:7] ** 2)
    residual = s * (1 / (1 + np.exp(-z)) - y)
    gradient = np.r_[X.T @ residual + 0.1 * params[:7], residual.sum()]
    objective = make(backend, X, labels, weights=weights, alpha=0.1, dtype=dtype)
    got = objective.value_and_grad(backend.asarray(params.astype(dtype)))
    assert str(got[0].dtype).endswith("float64")
    assert str(got[1].dtype).endswith(dtype)
    tolerance = float(4 * np.finfo(dtype).eps ** 0.5)
    assert float(backend.to_numpy(got[0])) == pytest.approx(value, rel=tolerance)
    assert_close(backend, got[1], gradient, dtype=dtype)


def test_intercept_is_not_penalised(backend, rng):
    X, labels = problem(rng)
    params = np.r_[np.zeros(7), 3.0]
    plain, strong = (make(backend, X, labels, alpha=alpha) for alpha in (0.0, 5.0))
    first, second = (o.value_and_grad(backend.asarray(params)) for o in (plain, strong))
    assert backend.to_numpy(first[0]) == backend.to_numpy(second[0])
    assert (backend.to_numpy(first[1]) == backend.to_numpy(second[1])).all()


@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), split=st.integers(1, 59))
def test_parts_average_to_the_whole(seed, n, split):
    rng = np.random.default_rng(seed)
    backend = get_backend("numpy")
    X, labels = problem(rng, n=n, d=3)
    split = min(split, n - 1)
    params = rng.normal(size=4)
    whole = make(backend, X, labels).value_and_grad(params)
    parts = [
        make(backend, X[rows], labels[rows]).value_and_grad(params)
        for rows in (slice(split), slice(split, None))
    ]
    for k in (0, 1):
        mean = (split * parts[0][k] + (n - split) * parts[1][k]) / n
        np.testing.assert_allclose(whole[k], mean, rtol=1e-12, atol=1e-14)


def test_same_input_same_bits_and_inputs_unchanged(backend, rng):
    X, labels = problem(rng, n=500)
    before = X.copy()
    objective = make(backend, X, labels)
    params = backend.asarray(rng.normal(size=8))
    kept = backend.to_numpy(params).copy()
    runs = [objective.value_and_grad(params) for _ in range(3)]
    for value, gradient in runs[1:]:
        assert backend.to_numpy(value) == backend.to_numpy(runs[0][0])
        assert (backend.to_numpy(gradient) == backend.to_numpy(runs[0][1])).all()
    assert (backend.to_numpy(params) == kept).all()
    assert (before == X).all()


def test_value_is_summed_in_float64(backend):
    """In float32 the sum of a million equal losses loses its fourth digit."""
    n = 1_000_000
    objective = make(backend, np.zeros((n, 1)), np.arange(n) % 2, dtype="float32")
    value, _ = objective.value_and_grad(backend.asarray(np.zeros(2, dtype=np.float32)))
    weight = float(np.float32(1 / n))
    wanted = n * float(np.float32(weight * float(np.float32(np.log(2)))))
    assert float(backend.to_numpy(value)) == pytest.approx(wanted, rel=1e-7)


def test_blocks_cover_rows_once(rng):
    from tests.strict import StrictBackend

    X, labels = problem(rng, n=101)
    params = rng.normal(size=8)
    values = []
    for n_blocks in (1, 2, 7, 101):
        backend = StrictBackend(n_blocks=n_blocks)
        value, gradient = make(backend, X, labels).value_and_grad(backend.asarray(params))
        values.append(np.r_[backend.to_numpy(value), backend.to_numpy(gradient)])
    for other in values[1:]:
        np.testing.assert_allclose(other, values[0], rtol=1e-12, atol=1e-15)
