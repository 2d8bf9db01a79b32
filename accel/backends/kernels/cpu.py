"""The pass of a linear model with one or a few outputs on the CPU, compiled by Numba.

A few rows, small enough for the first-level cache, are read from memory once: their dot products
with w, then loss and residual, then the gradient, while they are still in cache. X is decoded
element by element in registers, so compact storage is never expanded in memory.

Importing this module imports numba; `load` in the backend does so at the first large fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

from accel.backends.kernels.elementwise import decode, exp, log1p

Array = Any
Decorator = Callable[[Callable[..., Any]], Any]

# Rows in flight: about as many bytes as a first-level cache holds, and enough rows that exp and
# log1p run in full vectors. Measured on 784 to 4,096 columns; 2 to 4 times more or less costs 10 %.
TILE_BYTES = 64 << 10
TILE_ROWS = (8, 128)
GROUP = 4  # outputs that the softmax kernel computes together; its z0 to z3 are written for this
MOST_OUTPUTS = 16  # beyond, the products are large enough for BLAS to be faster

# Sums may be reordered into vectors and products fused; nothing may assume away NaN or infinity.
SUMS = {"reassoc", "contract", "nsz"}


# dtype of X -> how the kernels read its bits: the type chooses `decode`
STORAGE = {
    "float64": "float64",
    "float32": "float32",
    "uint8": "uint8",
    "int8": "int8",
    "float16": "uint16",
    "bfloat16": "int16",
}


def compiled(**options: Any) -> Decorator:
    """numba.njit that releases the GIL and keeps its code on disk where a folder allows it."""

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return nb.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # numba finds no folder that it may write
            return nb.njit(nogil=True, **options)(function)

    return decorate


def logistic_pass(
    X: Array, Y: Array, s: Array, W: Array, b: Array | None
) -> tuple[float, Array, Array]:
    """Weighted sum of the logistic loss over the rows of X, and its gradient in W and b.

    Parameters
    ----------
    X : ndarray (n, d)
        Rows, contiguous, of a dtype in `STORAGE`.
    Y : ndarray (n, 1) of int8
        -1 or +1.
    s : ndarray (n,)
        Weights, in the arithmetic of X's dtype.
    W : ndarray (d, 1)
        Coefficients, in the same.
    b : ndarray (1,) or None
        Intercept; None is zero.

    Returns
    -------
    value : float
        Summed in float64.
    g_W : ndarray (d,)
        In the arithmetic of X's dtype.
    g_b : ndarray (1,)
        In the same.
    """
    bits = STORAGE[str(X.dtype)]
    g_W = np.zeros_like(W[:, 0])
    intercept = s.dtype.type(0 if b is None else b[0])
    value, g_b = _logistic_kernel(X.view(bits), Y[:, 0], s, W[:, 0], intercept, g_W, _tile_rows(X))
    return value, g_W, np.array([g_b], dtype=s.dtype)


def logistic_quadratic_pass(
    X: Array, Y: Array, s: Array, W: Array, b: Array | None
) -> tuple[float, Array, Array]:
    """The same for `LogisticQuadratic`, a Hessian product: Y is the curvature of each row."""
    bits = STORAGE[str(X.dtype)]
    g_W = np.zeros_like(W[:, 0])
    intercept = s.dtype.type(0 if b is None else b[0])
    h = s * Y[:, 0]
    value, g_b = _quadratic_kernel(X.view(bits), h, W[:, 0], intercept, g_W, _tile_rows(X))
    return value, g_W, np.array([g_b], dtype=s.dtype)


def softmax_pass(
    X: Array, Y: Array, s: Array, W: Array, b: Array | None
) -> tuple[float, Array, Array]:
    """Weighted sum of the softmax cross-entropy over the rows of X, and its gradient in W and b.

    Parameters
    ----------
    X : ndarray (n, d)
        Rows, contiguous, of a dtype in `STORAGE`.
    Y : ndarray (n, 1) of int32
        Class indices.
    s : ndarray (n,)
        Weights, in the arithmetic of X's dtype.
    W : ndarray (d, K)
        Coefficients, in the same; K at most `MOST_OUTPUTS`.
    b : ndarray (K,) or None
        Intercepts; None is zero.

    Returns
    -------
    value : float
        Summed in float64.
    g_W : ndarray (d * K,)
        By rows of W, in the arithmetic of X's dtype.
    g_b : ndarray (K,)
        In the same.
    """
    return _many(X, Y[:, 0], s, W, b)


def softmax_quadratic_pass(
    X: Array, Y: Array, s: Array, W: Array, b: Array | None
) -> tuple[float, Array, Array]:
    """The same for `SoftmaxQuadratic`, a Hessian product: Y is the probabilities (n, K)."""
    return _many(X, Y, s, W, b)


def _many(X: Array, Y: Array, s: Array, W: Array, b: Array | None) -> tuple[float, Array, Array]:
    """W and b in groups of outputs, the last filled with zeros, as the kernel wants them."""
    d, K = W.shape
    padded = -(-K // GROUP) * GROUP
    WT, bias = np.zeros((padded, d), dtype=s.dtype), np.zeros(padded, dtype=s.dtype)
    WT[:K] = W.T
    if b is not None:
        bias[:K] = b
    GT, g_b = np.zeros_like(WT), np.zeros(K, dtype=np.float64)
    value = _softmax_kernel(X.view(STORAGE[str(X.dtype)]), Y, s, WT, bias, GT, g_b, _tile_rows(X))
    return value, GT[:K].T.reshape(-1), g_b.astype(s.dtype)


def _tile_rows(X: Array) -> int:
    rows: int = TILE_BYTES // max(1, X.shape[1] * X.dtype.itemsize) // 8 * 8
    return min(max(rows, TILE_ROWS[0]), TILE_ROWS[1])


@compiled(fastmath=SUMS)
def _dot(X: Array, start: int, n: int, w: Array, b: Any, z: Array) -> None:
    """Z = X w + b, row by row: one stream from memory, which the prefetchers follow best."""
    for i in range(n):
        total = w.dtype.type(0)
        for j in range(X.shape[1]):
            total += decode(X[start + i, j]) * w[j]
        z[i] = total + b


@compiled(fastmath={"contract"}, error_model="numpy")
def _logistic_loss(tile: Array, n: int) -> float:
    """The formulas of `accel.losses.Logistic`, times s.

    The rows of tile are z (overwritten by the loss), the residual, y and s: one array, because the
    compiler takes another road, with other last bits, where it cannot exclude that arrays overlap.
    """
    zero, one = tile.dtype.type(0), tile.dtype.type(1)
    for i in range(n):
        y, s = tile[2, i], tile[3, i]
        margin = y * tile[0, i]
        e = exp(-abs(margin))
        tile[0, i] = s * (log1p(e) - min(margin, zero))
        tile[1, i] = -s * y * ((e if margin > 0 else one) / (one + e))
    value = 0.0
    for i in range(n):
        value += tile[0, i]
    return value


@compiled(fastmath=SUMS)
def _accumulate(X: Array, start: int, n: int, r: Array, g: Array) -> None:
    """G += X' r, four rows at a time so that g is loaded and stored once for them."""
    full = n - n % 4
    for i in range(0, full, 4):
        r0, r1, r2, r3 = r[i], r[i + 1], r[i + 2], r[i + 3]
        for j in range(X.shape[1]):
            g[j] += (
                r0 * decode(X[start + i, j])
                + r1 * decode(X[start + i + 1, j])
                + r2 * decode(X[start + i + 2, j])
                + r3 * decode(X[start + i + 3, j])
            )
    for i in range(full, n):
        for j in range(X.shape[1]):
            g[j] += r[i] * decode(X[start + i, j])


@compiled()
def _logistic_kernel(
    X: Array, Y: Array, s: Array, w: Array, b: Any, g_w: Array, tile: int
) -> tuple[float, float]:
    work = np.empty((4, tile), w.dtype)
    value, g_b = 0.0, 0.0
    for start in range(0, X.shape[0], tile):
        n = min(tile, X.shape[0] - start)
        _dot(X, start, n, w, b, work[0])
        for i in range(n):
            work[2, i] = Y[start + i]
            work[3, i] = s[start + i]
        value += _logistic_loss(work, n)
        _accumulate(X, start, n, work[1], g_w)
        for i in range(n):
            g_b += work[1, i]
    return value, g_b


@compiled()
def _quadratic_kernel(
    X: Array, h: Array, w: Array, b: Any, g_w: Array, tile: int
) -> tuple[float, float]:
    z = np.empty(tile, w.dtype)
    value, g_b = 0.0, 0.0
    for start in range(0, X.shape[0], tile):
        n = min(tile, X.shape[0] - start)
        _dot(X, start, n, w, b, z)
        for i in range(n):
            r = h[start + i] * z[i]
            value += 0.5 * r * z[i]
            g_b += r
            z[i] = r
        _accumulate(X, start, n, z, g_w)
    return value, g_b


@compiled(fastmath=SUMS)
def _dot_many(X: Array, start: int, n: int, WT: Array, bias: Array, Z: Array) -> None:
    """Z = X W + b, four outputs at a time so that an element of X is loaded once for them."""
    zero = WT.dtype.type(0)
    for i in range(n):
        for k in range(0, WT.shape[0], 4):
            z0, z1, z2, z3 = zero, zero, zero, zero
            for j in range(X.shape[1]):
                x = decode(X[start + i, j])
                z0 += x * WT[k, j]
                z1 += x * WT[k + 1, j]
                z2 += x * WT[k + 2, j]
                z3 += x * WT[k + 3, j]
            Z[i, k], Z[i, k + 1] = z0 + bias[k], z1 + bias[k + 1]
            Z[i, k + 2], Z[i, k + 3] = z2 + bias[k + 2], z3 + bias[k + 3]


@compiled(fastmath={"contract"}, error_model="numpy")
def _softmax_loss(Y: Array, s: Array, start: int, n: int, K: int, Z: Array) -> float:
    """The formulas of `accel.losses.Softmax`, times s; Z is overwritten by the residual."""
    value = 0.0
    for i in range(n):
        label, weight = Y[start + i], s[start + i]
        largest = Z[i, 0]
        for k in range(K):
            largest = max(largest, Z[i, k])
        own = Z[i, label] - largest
        others = Z.dtype.type(0)
        for k in range(K):
            Z[i, k] = exp(Z[i, k] - largest)
            others += Z[i, k] if k != label else Z.dtype.type(0)
        total = others + Z[i, label]
        for k in range(K):
            Z[i, k] *= weight / total
        Z[i, label] = -others * (weight / total)
        value += weight * (np.log(total) - own if own < 0 else np.log1p(others))
    return value


@compiled(fastmath=SUMS)
def _accumulate_many(X: Array, start: int, n: int, Z: Array, GT: Array) -> None:
    """G += X' R, four rows by two outputs at a time."""
    full = n - n % 4
    for i in range(0, full, 4):
        for k in range(0, GT.shape[0], 2):
            a0, a1, a2, a3 = Z[i, k], Z[i + 1, k], Z[i + 2, k], Z[i + 3, k]
            b0, b1, b2, b3 = Z[i, k + 1], Z[i + 1, k + 1], Z[i + 2, k + 1], Z[i + 3, k + 1]
            for j in range(X.shape[1]):
                x0, x1 = decode(X[start + i, j]), decode(X[start + i + 1, j])
                x2, x3 = decode(X[start + i + 2, j]), decode(X[start + i + 3, j])
                GT[k, j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                GT[k + 1, j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
    for i in range(full, n):
        for k in range(GT.shape[0]):
            for j in range(X.shape[1]):
                GT[k, j] += Z[i, k] * decode(X[start + i, j])


@compiled(fastmath={"contract"})
def _softmax_quadratic(P: Array, s: Array, start: int, n: int, K: int, Z: Array) -> float:
    """The formulas of `accel.losses.SoftmaxQuadratic`, times s; Z becomes the gradient."""
    value = 0.0
    for i in range(n):
        mean = Z.dtype.type(0)
        for k in range(K):
            mean += P[start + i, k] * Z[i, k]
        form = Z.dtype.type(0)
        for k in range(K):
            deviation = Z[i, k] - mean
            Z[i, k] = s[start + i] * P[start + i, k] * deviation
            form += Z[i, k] * deviation
        value += 0.5 * form
    return value


@compiled()
def _softmax_kernel(
    X: Array, Y: Array, s: Array, WT: Array, bias: Array, GT: Array, g_b: Array, tile: int
) -> float:
    """Labels (n,) in Y make it the loss, probabilities (n, K) its quadratic form."""
    Z, K = np.zeros((tile, WT.shape[0]), WT.dtype), len(g_b)
    value = 0.0
    for start in range(0, X.shape[0], tile):
        n = min(tile, X.shape[0] - start)
        _dot_many(X, start, n, WT, bias, Z)
        if Y.ndim == 1:  # decided by the type, when it is compiled
            value += _softmax_loss(Y, s, start, n, K, Z)
        else:
            value += _softmax_quadratic(Y, s, start, n, K, Z)
        _accumulate_many(X, start, n, Z, GT)
        for i in range(n):
            for k in range(K):
                g_b[k] += Z[i, k]
    return value


def softmax_residual(Y: Array, s: Array, Z: Array) -> float:
    """Weighted sum of the softmax cross-entropy; the raw predictions Z become its gradient.

    Parameters
    ----------
    Y : ndarray (n, 1) of int32
        Class indices.
    s : ndarray (n,)
        Weights.
    Z : ndarray (n, K)
        Raw predictions; written over.

    Returns
    -------
    float
        Summed in float64.
    """
    value: float = _softmax_loss(Y[:, 0], s, 0, len(Z), Z.shape[1], Z)
    return value


RESIDUALS = {"softmax": softmax_residual}
PASSES = {
    "logistic": logistic_pass,
    "softmax": softmax_pass,
    "logistic quadratic": logistic_quadratic_pass,
    "softmax quadratic": softmax_quadratic_pass,
}
