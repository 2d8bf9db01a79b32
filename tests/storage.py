"""Odd shapes in every storage dtype, with their answer in float64 NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np

DTYPES = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "uint8": np.uint8,
    "int8": np.int8,
}
SHAPES = [(1, 1), (1, 7), (5, 1), (3, 33), (23, 130), (37, 31), (2, 20_000)]


def arrays(dtype, shape, n_outputs=1, seed=0):
    """X, labels, weights of sum one, W, b; float16 X holds subnormals and zeros as well."""
    rng = np.random.default_rng(seed)
    n, d = shape
    if "int" in dtype:
        info = np.iinfo(dtype)
        X = rng.integers(info.min, info.max + 1, shape).astype(dtype)
    else:
        X = rng.normal(size=shape).astype(DTYPES[dtype])
        X.flat[::7] = 0
        X.flat[::11] = DTYPES[dtype](3e-7)
        X.flat[::13] = DTYPES[dtype](-3e-7)
    labels = rng.integers(0, max(2, n_outputs), n)
    weights = rng.uniform(0.1, 2, n)
    real = "float64" if dtype == "float64" else "float32"
    scale = 1 / (np.abs(X.astype(np.float64)).mean() * d**0.5 + 1e-3)
    W = (rng.normal(size=(d, n_outputs)) * scale).astype(real)
    return (
        X,
        labels,
        (weights / weights.sum()).astype(real),
        W,
        rng.normal(size=n_outputs).astype(real),
    )


def answer(X, labels, s, W, b):
    """Value, g_W, g_b in float64, as a textbook writes them."""
    X, s, W, b = (a.astype(np.float64) for a in (X, s, W, b))
    z = X @ W + b
    if z.shape[1] == 1:
        value = np.sum(s * (np.logaddexp(0, z[:, 0]) - labels * z[:, 0]))
        residual = s[:, None] * (1 / (1 + np.exp(-z)) - labels[:, None])
    else:
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(len(X))
        value = -np.sum(s * np.log(p[rows, labels]))
        residual = s[:, None] * (p - np.eye(z.shape[1])[labels])
    return value, X.T @ residual, residual.sum(axis=0)


def bound(X, s, W):
    """Largest error of z from rounding, d eps |X| |W|, through the losses' derivatives (<= 1)."""
    eps = np.finfo(W.dtype).eps
    magnitude = np.abs(X.astype(np.float64)) @ np.abs(W.astype(np.float64))
    z_error = (8 + X.shape[1] ** 0.5) * eps * (1 + magnitude.max())
    largest = max(1.0, np.abs(X.astype(np.float64)).max())
    return 4 * z_error, 4 * (z_error + 8 * eps) * largest


def assert_is_answer(got, X, labels, s, W, b):
    value, g_W, g_b = answer(X, labels, s, W, b)
    for_value, for_gradient = bound(X, s, W)
    assert abs(float(got[0]) - value) <= for_value * max(1.0, abs(value))
    assert (
        np.abs(np.asarray(got[1], dtype=np.float64).reshape(g_W.shape) - g_W).max() <= for_gradient
    )
    assert np.abs(np.asarray(got[2], dtype=np.float64) - g_b).max() <= for_gradient
