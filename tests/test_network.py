from __future__ import annotations

import numpy as np
import pytest

from accel.network import ACTIVATIONS, Network
from tests.closeness import assert_close

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


def test_relu_derivative_at_zero_is_zero():
    _, chain = ACTIVATIONS["relu"](np.array([0.0, 1.0, -1.0]), xp=np)
    assert chain(np.ones(3)).tolist() == [0.0, 1.0, 0.0]


def test_logistic_activation_does_not_overflow():
    a, _ = ACTIVATIONS["logistic"](np.array([-1e4, 1e4], dtype=np.float32), xp=np)
    assert a.tolist() == [0.0, 1.0]
