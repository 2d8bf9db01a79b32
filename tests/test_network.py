from __future__ import annotations

import warnings

import mpmath
import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from accel.network import ACTIVATIONS, Network, Workspace
from tests.closeness import assert_close

C = mpmath.sqrt(2 / mpmath.pi)
CASES = [
    Network(5, 1),
    Network(5, 3, bias=False),
    *(Network(5, 2, hidden=(4,), activation=name) for name in ACTIVATIONS),
    *(Network(4, 3, hidden=(6, 5), activation=name, bias=False) for name in ACTIVATIONS),
    Network(1, 1, hidden=(1, 1, 1), activation="tanh"),
]


def by_hand(network, params, X):
    """The forward pass as a textbook writes it, in float64 NumPy."""
    f = {
        "identity": lambda z: z,
        "relu": lambda z: np.maximum(z, 0),
        "tanh": np.tanh,
        "logistic": lambda z: 1 / (1 + np.exp(-z)),
        "gelu": lambda z: z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) / 2,
    }[network.activation]
    a, start = X, 0
    for depth, (rows, columns) in enumerate(network.shapes):
        W = params[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
        a = a @ W
        if network.bias:
            a = a + params[start : start + columns]
            start += columns
        if depth < len(network.shapes) - 1:
            a = f(a)
    assert start == len(params) == network.n_params
    return a


@pytest.mark.parametrize("network", CASES, ids=str)
def test_forward_and_backward(backend, network, rng):
    params = rng.normal(size=network.n_params)
    X = rng.normal(size=(7, network.n_in))
    R = rng.normal(size=(7, network.n_out))
    raw, backprop = network.forward(backend.asarray(params), backend.asarray(X), xp=backend.xp)
    assert_close(backend, raw, by_hand(network, params, X))
    gradient = backprop(backend.asarray(R))
    h = 1e-6
    wanted = [
        np.sum(R * (by_hand(network, params + h * e, X) - by_hand(network, params - h * e, X)))
        / (2 * h)
        for e in np.eye(network.n_params)
    ]
    assert_close(backend, gradient, wanted, scale=10)


def test_is_weight_marks_every_W_and_no_b():
    network = Network(2, 3, hidden=(4,))
    mask = network.is_weight()
    assert mask.tolist() == [True] * 8 + [False] * 4 + [True] * 12 + [False] * 3


def value(name, z):
    z = np.array(z)
    a = np.empty_like(z)
    ACTIVATIONS[name].value(z, a, xp=np)
    return a


def slope(name, z):
    z = np.array(z)
    a, gradient = value(name, z), np.ones_like(z)
    ACTIVATIONS[name].chain(z.copy(), a, gradient, xp=np)
    return gradient


def test_relu_derivative_at_zero_is_zero():
    assert slope("relu", [0.0, 1.0, -1.0]).tolist() == [0.0, 1.0, 0.0]


def test_logistic_activation_does_not_overflow():
    assert value("logistic", np.array([-1e4, 1e4], dtype=np.float32)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_at_extremes_and_against_mpmath(name, dtype):
    f = {
        "identity": lambda z: z,
        "relu": lambda z: max(z, mpmath.mpf(0)),
        "tanh": mpmath.tanh,
        "logistic": lambda z: 1 / (1 + mpmath.exp(-z)),
        "gelu": lambda z: z * (1 + mpmath.tanh(C * (z + mpmath.mpf("0.044715") * z**3))) / 2,
    }[name]
    z = np.array([-300.0, -20.0, -3.0, -1.0, -0.1, 1e-6, 0.3, 1.0, 4.0, 300.0], dtype=dtype)
    eps = np.finfo(dtype).eps
    with mpmath.workdps(60):
        wanted = [float(f(mpmath.mpf(float(v)))) for v in z]
        slopes = [float(mpmath.diff(f, mpmath.mpf(float(v)))) for v in z]
    np.testing.assert_allclose(value(name, z), wanted, rtol=8 * eps, atol=8 * eps)
    np.testing.assert_allclose(slope(name, z), slopes, rtol=32 * eps, atol=32 * eps)


def test_gelu_is_close_to_the_exact_one():
    z = np.linspace(-8, 8, 4001)
    exact = z * np.array([float(mpmath.ncdf(v)) for v in z])
    assert np.max(np.abs(value("gelu", z) - exact)) < 5e-4


def test_a_workspace_is_used_again_and_by_fewer_rows(backend, rng):
    """Same numbers with old arrays as with new ones, also for a last, shorter batch."""
    network, xp = Network(5, 3, hidden=(4, 6), activation="gelu"), backend.xp
    params = backend.asarray(rng.normal(size=network.n_params))
    space = Workspace(network, 8, params, xp=xp)
    gradient = xp.empty_like(params)
    for n in (8, 8, 3):
        X, R = (backend.asarray(rng.normal(size=(n, k))) for k in (5, 3))
        raw, backprop = network.forward(params, X, xp=xp, workspace=space)
        plain, plain_backprop = network.forward(params, X, xp=xp)
        assert_close(backend, raw, backend.to_numpy(plain))
        assert backprop(R, out=gradient) is gradient
        assert_close(backend, gradient, backend.to_numpy(plain_backprop(R)))


def test_masks_act_on_the_outputs_of_hidden_layers(backend, rng):
    """A masked unit is as a network without it, forward and backward."""
    network, xp = Network(5, 2, hidden=(4,), activation="logistic"), backend.xp
    params, X, R = (rng.normal(size=s) for s in (network.n_params, (7, 5), (7, 2)))
    keep = np.array([1.0, 0.0, 1.0, 1.0])
    W_out = params[24:32].reshape(4, 2) * keep[:, None]
    without = np.concatenate([params[:24], W_out.ravel(), params[32:]])
    mask = backend.asarray(np.tile(keep, (7, 1)))
    raw, backprop = network.forward(
        backend.asarray(params), backend.asarray(X), xp=xp, masks=[mask]
    )
    assert_close(backend, raw, by_hand(network, without, X))
    h, wanted = 1e-6, []
    for e in np.eye(network.n_params):
        e[24:32] *= np.repeat(keep, 2)
        up, down = (by_hand(network, without + sign * h * e, X) for sign in (1, -1))
        wanted.append(np.sum(R * (up - down)) / (2 * h))
    assert_close(backend, backprop(backend.asarray(R)), wanted, scale=10)


@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_initial_parameters_are_scikit_learns(activation):
    still = {"max_iter": 1, "learning_rate_init": 1e-300}
    peer = MLPClassifier((6, 4), activation=activation, random_state=3, **still)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(np.eye(5), np.arange(5) % 3)
    network = Network(5, 3, hidden=(6, 4), activation=activation)
    params = network.initial("glorot", np.random.RandomState(3), np.float64)
    wanted = [v.ravel() for pair in zip(peer.coefs_, peer.intercepts_, strict=True) for v in pair]
    np.testing.assert_array_equal(params, np.concatenate(wanted))


def test_he_has_the_variance_it_says():
    network = Network(200, 1, hidden=(300,))
    params = network.initial("he", np.random.RandomState(0), np.float64)
    assert np.var(params[:60000]) == pytest.approx(2 / 200, rel=0.02)
