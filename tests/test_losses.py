from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.losses import LOSSES, MULTILABEL, TARGET_LOSSES
from tests.closeness import assert_close

NUMBERS = {**TARGET_LOSSES, "multilabel": MULTILABEL}

RAW = [0.0, 1e-8, -1e-8, 0.5, -0.5, 3.0, -3.0, 20.0, -20.0, 40.0, -40.0, 700.0, -700.0, 1e4, -1e4]


def exact(name, label, raw):
    """Loss, gradient and probabilities in 700 digits."""
    with mpmath.workdps(700):
        z = (
            [mpmath.mpf(0), mpmath.mpf(raw[0])]
            if name == "logistic"
            else list(map(mpmath.mpf, raw))
        )
        total = mpmath.fsum(mpmath.exp(value) for value in z)
        loss = mpmath.log(total) - z[label]
        p = [mpmath.exp(value) / total for value in z]
        gradient = [value - (k == label) for k, value in enumerate(p)]
        if name == "logistic":
            gradient = gradient[1:]
        log_p = [value - mpmath.log(total) for value in z]
        return float(loss), [*map(float, gradient)], [*map(float, p)], [*map(float, log_p)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_number_against_mpmath(backend, name, dtype):
    raw = [[value] for value in RAW]
    if name == "softmax":
        raw = [[value, 0.25, -value / 3] for value in RAW]
    raw = np.array(raw, dtype=dtype)
    loss, xp = LOSSES[name], backend.xp
    n_classes = 2 if name == "logistic" else 3
    for label in range(n_classes):
        wanted = [exact(name, label, row.astype(float)) for row in raw]
        Y = backend.asarray(loss.encode_target(np.full(len(raw), label)))
        z = backend.asarray(raw)
        value, gradient = loss.loss_gradient(Y, z, xp=xp)
        scale = 1.0 if name == "softmax" else 0.0  # the logistic gradient keeps relative precision
        assert_close(
            backend, value, [w[0] for w in wanted], kind="elementwise", dtype=dtype, scale=1.0
        )
        tiny = np.finfo(dtype).tiny
        assert_close(
            backend,
            gradient,
            [w[1] for w in wanted],
            kind="elementwise",
            dtype=dtype,
            scale=scale + tiny,
        )
        if label:
            continue
        p, log_p = loss.probabilities(z, xp=xp), loss.log_probabilities(z, xp=xp)
        assert_close(
            backend, p, [w[2] for w in wanted], kind="elementwise", dtype=dtype, scale=tiny
        )
        assert_close(
            backend, log_p, [w[3] for w in wanted], kind="elementwise", dtype=dtype, scale=1.0
        )


def test_logistic_gradient_keeps_relative_precision_far_from_the_boundary():
    loss = LOSSES["logistic"]
    Y = loss.encode_target(np.array([1]))
    _, gradient = loss.loss_gradient(Y, np.array([[30.0]], dtype=np.float32), xp=np)
    assert gradient[0, 0] == pytest.approx(-9.357622968840175e-14, rel=1e-6)


def test_softmax_keeps_relative_precision_far_from_the_boundary(backend):
    """Loss and gradient of a sample 30 above the rest: e^-30, not the zero of log(1 + e^-30)."""
    loss, xp = LOSSES["softmax"], backend.xp
    Y = backend.asarray(loss.encode_target(np.array([1])))
    z = backend.asarray(np.array([[0.0, 30.0, -1.0]], dtype=np.float32))
    value, gradient = loss.loss_gradient(Y, z, xp=xp)
    small = np.exp([-30.0, -31.0])
    assert_close(backend, value, [small.sum()], dtype="float32", kind="elementwise", scale=1e-13)
    wanted = [[small[0], -small.sum(), small[1]]]
    assert_close(backend, gradient, wanted, dtype="float32", kind="elementwise", scale=1e-13)


@pytest.mark.parametrize("name", LOSSES)
@given(data=st.data())
def test_gradient_is_the_derivative(name, data):
    loss = LOSSES[name]
    K = 1 if name == "logistic" else data.draw(st.integers(2, 6))
    raw = np.array([data.draw(st.lists(st.floats(-15, 15), min_size=K, max_size=K))])
    Y = loss.encode_target(np.array([data.draw(st.integers(0, max(1, K - 1)))]))
    _, gradient = loss.loss_gradient(Y, raw, xp=np)
    h = 1e-6
    for k in range(K):
        shift = h * (np.arange(K) == k)
        up, _ = loss.loss_gradient(Y, raw + shift, xp=np)
        down, _ = loss.loss_gradient(Y, raw - shift, xp=np)
        assert gradient[0, k] == pytest.approx((up - down)[0] / (2 * h), abs=2e-9, rel=1e-6)


@given(z=st.floats(-50, 50))
def test_softmax_of_two_is_logistic(z):
    binary, softmax = LOSSES["logistic"], LOSSES["softmax"]
    for label in (0, 1):
        index = np.array([label])
        one, _ = binary.loss_gradient(binary.encode_target(index), np.array([[z]]), xp=np)
        two, _ = softmax.loss_gradient(softmax.encode_target(index), np.array([[0.0, z]]), xp=np)
        assert one[0] == pytest.approx(two[0], abs=1e-14, rel=1e-12)


def exact_target(name, y, z):
    """Loss and gradient in 50 digits."""
    losses = {
        "multilabel": lambda y, z: mpmath.log1p(mpmath.exp(-(2 * y - 1) * z)),
        "squared_error": lambda y, z: (z - y) ** 2 / 2,
        "poisson": lambda y, z: (y * mpmath.log(y) if y else 0) - y * z - y + mpmath.exp(z),
    }
    with mpmath.workdps(50):
        y, z = list(map(mpmath.mpf, y)), list(map(mpmath.mpf, z))
        f = losses[name]
        slopes = [float(mpmath.diff(lambda t, y=a: f(y, t), b)) for a, b in zip(y, z, strict=True)]
        return float(mpmath.fsum(f(a, b) for a, b in zip(y, z, strict=True))), slopes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NUMBERS)
def test_target_losses_against_mpmath(backend, name, dtype):
    y = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=dtype)
    z = np.array([[0.0, 2.0, -3.0], [9.0, -9.0, 1e-4], [30.0, 0.5, 3.0], [-1, 4, -40]], dtype=dtype)
    loss = NUMBERS[name]
    wanted = [
        exact_target(name, a.astype(float), b.astype(float)) for a, b in zip(y, z, strict=True)
    ]
    Y = backend.asarray(loss.encode_target(y))
    value, gradient = loss.loss_gradient(Y, backend.asarray(z), xp=backend.xp)
    close = {"dtype": dtype, "kind": "elementwise", "scale": 1.0}
    assert_close(backend, value, [w[0] for w in wanted], **close)
    assert_close(backend, gradient, [w[1] for w in wanted], **close)
    prediction = {
        "multilabel": lambda z: 1 / (1 + np.exp(-z.astype(float))),
        "squared_error": lambda z: z,
        "poisson": lambda z: np.exp(z.astype(float)),
    }[name](z)
    assert_close(backend, loss.predict(backend.asarray(z), xp=backend.xp), prediction, **close)


def test_poisson_refuses_negative_counts():
    with pytest.raises(ValueError, match="negative numbers: loss='poisson'"):
        TARGET_LOSSES["poisson"].encode_target(np.array([[-1.0]]))


def test_log_probabilities_of_labels_are_never_minus_infinity(backend):
    z = backend.asarray(np.array([[-1e4, 0.0, 800.0]]))
    log_p = MULTILABEL.log_probabilities(z, xp=backend.xp)
    assert_close(backend, log_p, [[-1e4, -np.log(2), 0.0]])
