"""The pass of a linear model with one or a few outputs on the CPU, compiled by Numba.

A few rows, small enough for the first-level cache, are read from memory once: their dot products
with w, then loss and residual, then the gradient, while they are still in cache. X is decoded
element by element in registers, so compact storage is never expanded in memory.

Importing this module imports numba; `load` in the backend does so at the first large fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba as nb
import numpy as np

Array = Any

# Rows in flight: about as many bytes as a first-level cache holds, and enough rows that exp and
# log1p run in full vectors. Measured on 784 to 4,096 columns; 2 to 4 times more or less costs 10 %.
TILE_BYTES = 64 << 10
TILE_ROWS = (8, 128)
GROUP = 4  # outputs computed together: as many as leave registers for the rest
MOST_OUTPUTS = 16  # beyond, the products are large enough for BLAS to be faster

# Sums may be reordered into vectors and products fused; nothing may assume away NaN or infinity.
SUMS = {"reassoc", "contract", "nsz"}


@nb.njit(inline="always")
def exp_float32(x: Any) -> Any:
    """exp(x) for x <= 0, relative error below 2e-7; x below -87 gives exp(-87), 1.6e-38.

    x = n ln 2 + r with |r| <= ln(2)/2 (Cody & Waite), Taylor series of degree 7 in r: truncation
    below (ln(2)/2)^8 / 8! = 5.2e-9.
    """
    x = max(x, np.float32(-87.0))
    n = np.int32(x * np.float32(1.4426950408889634) - np.float32(0.5))
    r = x - np.float32(n) * np.float32(0.693359375) - np.float32(n) * np.float32(-2.12194440e-4)
    p = np.float32(1 / 5040) * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(1 / 2)
    p = p * r + np.float32(1)
    p = p * r + np.float32(1)
    return p * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


@nb.njit(inline="always")
def exp_float64(x: Any) -> Any:
    """exp(x) for x <= 0, relative error below 5e-16; x below -708 gives exp(-708), 3e-308.

    As `exp_float32`, with degree 13: truncation below (ln(2)/2)^14 / 14! = 4.2e-18.
    """
    x = max(x, -708.0)
    n = np.int32(x * 1.4426950408889634 - 0.5)
    r = x - np.float64(n) * 6.93147180369123816490e-01 - np.float64(n) * 1.90821492927058770002e-10
    p = (1 / 6227020800) * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * np.int64((np.int64(n) + np.int64(1023)) << np.int64(52)).view(np.float64)


@nb.njit(inline="always")
def log1p_float32(e: Any) -> Any:
    """log(1 + e) for 0 <= e <= 1, relative error below 3e-7.

    2 artanh(s), s = e / (2 + e) <= 1/3, as a series to s^17: truncation below 3^-18/19 = 1.4e-10.
    """
    s = e / (np.float32(2) + e)
    t = s * s
    p = np.float32(1 / 17) * t + np.float32(1 / 15)
    p = p * t + np.float32(1 / 13)
    p = p * t + np.float32(1 / 11)
    p = p * t + np.float32(1 / 9)
    p = p * t + np.float32(1 / 7)
    p = p * t + np.float32(1 / 5)
    p = p * t + np.float32(1 / 3)
    p = p * t + np.float32(1)
    return np.float32(2) * s * p


@nb.njit(inline="always")
def log1p_float64(e: Any) -> Any:
    """log(1 + e) for 0 <= e <= 1, relative error below 8e-16.

    As `log1p_float32`, to s^31: truncation below 3^-32 / 33 = 1.6e-17.
    """
    s = e / (2.0 + e)
    t = s * s
    p = (1 / 31) * t + 1 / 29
    p = p * t + 1 / 27
    p = p * t + 1 / 25
    p = p * t + 1 / 23
    p = p * t + 1 / 21
    p = p * t + 1 / 19
    p = p * t + 1 / 17
    p = p * t + 1 / 15
    p = p * t + 1 / 13
    p = p * t + 1 / 11
    p = p * t + 1 / 9
    p = p * t + 1 / 7
    p = p * t + 1 / 5
    p = p * t + 1 / 3
    p = p * t + 1.0
    return 2.0 * s * p


@nb.njit(inline="always")
def as_float32(x: Any) -> Any:
    """float32, uint8 and int8 as float32, exactly."""
    return np.float32(x)


@nb.njit(inline="always")
def as_float64(x: Any) -> Any:
    """float64 as it is."""
    return np.float64(x)


@nb.njit(inline="always")
def half_as_float32(bits: Any) -> Any:
    """The bits of a finite float16, as uint16, to float32, exactly, subnormals included."""
    magnitude = np.uint32((np.uint32(bits) & np.uint32(0x7FFF)) << np.uint32(13))
    x = magnitude.view(np.float32) * np.float32(2.0**112)
    return -x if np.uint32(bits) & np.uint32(0x8000) else x


@nb.njit(inline="always")
def bfloat_as_float32(bits: Any) -> Any:
    """The bits of a bfloat16, as uint16, to float32, exactly."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


# dtype of X -> (how its bits are read, decoder, arithmetic)
STORAGE: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "float64": ("float64", as_float64, "float64"),
    "float32": ("float32", as_float32, "float32"),
    "uint8": ("uint8", as_float32, "float32"),
    "int8": ("int8", as_float32, "float32"),
    "float16": ("uint16", half_as_float32, "float32"),
    "bfloat16": ("uint16", bfloat_as_float32, "float32"),
}


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
    bits, _, _ = STORAGE[str(X.dtype)]
    g_W = np.zeros_like(W[:, 0])
    intercept = s.dtype.type(0 if b is None else b[0])
    kernel = _compiled("logistic", str(X.dtype))
    value, g_b = kernel(X.view(bits), Y[:, 0], s, W[:, 0], intercept, g_W, _tile_rows(X))
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
    bits, _, _ = STORAGE[str(X.dtype)]
    d, K = W.shape
    padded = -(-K // GROUP) * GROUP  # outputs go in groups; the last is filled with zeros
    WT, bias = np.zeros((padded, d), dtype=s.dtype), np.zeros(K, dtype=s.dtype)
    WT[:K] = W.T
    if b is not None:
        bias[:] = b
    GT, g_b = np.zeros_like(WT), np.zeros(K, dtype=np.float64)
    kernel = _compiled("softmax", str(X.dtype))
    value = kernel(X.view(bits), Y[:, 0], s, WT, bias, GT, g_b, _tile_rows(X))
    return value, GT[:K].T.reshape(-1), g_b.astype(s.dtype)


def _tile_rows(X: Array) -> int:
    rows: int = TILE_BYTES // max(1, X.shape[1] * X.dtype.itemsize) // 8 * 8
    return min(max(rows, TILE_ROWS[0]), TILE_ROWS[1])


@cache
def _compiled(loss: str, dtype: str) -> Any:
    """The kernel of this loss and dtype, compiled now, or taken from numba's cache on disk."""
    try:
        return BUILDERS[loss](dtype, on_disk=True)
    except RuntimeError:  # numba finds no folder that it may write
        return BUILDERS[loss](dtype, on_disk=False)


def _arithmetic(dtype: str) -> tuple[Any, Any, Any, Any]:
    """Decoder, number type, exp and log1p for X of this dtype."""
    _, decode, real = STORAGE[dtype]
    exp, log1p = {
        "float32": (exp_float32, log1p_float32),
        "float64": (exp_float64, log1p_float64),
    }[real]
    return decode, getattr(np, real), exp, log1p


def _logistic_kernel(dtype: str, *, on_disk: bool) -> Any:  # noqa: C901 - loops of one closure
    decode, real, exp, log1p = _arithmetic(dtype)

    @nb.njit(nogil=True, fastmath=SUMS)
    def dot(X: Array, start: int, n: int, w: Array, b: Any, z: Array) -> None:
        """Z = X w + b, row by row: one stream from memory, which the prefetchers follow best."""
        for i in range(n):
            total = real(0)
            for j in range(X.shape[1]):
                total += decode(X[start + i, j]) * w[j]
            z[i] = total + b

    @nb.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
    def loss_residual(Y: Array, s: Array, start: int, n: int, z: Array, r: Array) -> float:
        """The formulas of `accel.losses.Logistic`, times s; z is overwritten by the loss."""
        for i in range(n):
            y = real(Y[start + i])
            margin = y * z[i]
            e = exp(-abs(margin))
            z[i] = s[start + i] * (log1p(e) - min(margin, real(0)))
            r[i] = -s[start + i] * y * ((e if margin > 0 else real(1)) / (real(1) + e))
        value = 0.0
        for i in range(n):
            value += z[i]
        return value

    @nb.njit(nogil=True, fastmath=SUMS)
    def accumulate(X: Array, start: int, n: int, r: Array, g: Array) -> None:
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

    @nb.njit(nogil=True, cache=on_disk)
    def kernel(
        X: Array, Y: Array, s: Array, w: Array, b: Any, g_w: Array, tile: int
    ) -> tuple[float, float]:
        z, r = np.empty(tile, real), np.empty(tile, real)
        value, g_b = 0.0, 0.0
        for start in range(0, X.shape[0], tile):
            n = min(tile, X.shape[0] - start)
            dot(X, start, n, w, b, z)
            value += loss_residual(Y, s, start, n, z, r)
            accumulate(X, start, n, r, g_w)
            for i in range(n):
                g_b += r[i]
        return value, g_b

    return kernel


def _softmax_kernel(dtype: str, *, on_disk: bool) -> Any:  # noqa: C901 - loops of one closure
    decode, real, exp, _ = _arithmetic(dtype)

    @nb.njit(nogil=True, fastmath=SUMS)
    def dot(X: Array, start: int, n: int, WT: Array, Z: Array) -> None:
        """Z = X W, four outputs at a time so that an element of X is loaded once for them."""
        for i in range(n):
            for k in range(0, WT.shape[0], 4):
                z0, z1, z2, z3 = real(0), real(0), real(0), real(0)
                for j in range(X.shape[1]):
                    x = decode(X[start + i, j])
                    z0 += x * WT[k, j]
                    z1 += x * WT[k + 1, j]
                    z2 += x * WT[k + 2, j]
                    z3 += x * WT[k + 3, j]
                Z[i, k], Z[i, k + 1], Z[i, k + 2], Z[i, k + 3] = z0, z1, z2, z3

    @nb.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
    def loss_residual(Y: Array, s: Array, start: int, n: int, bias: Array, Z: Array) -> float:
        """The formulas of `accel.losses.Softmax`, times s; Z is overwritten by the residual."""
        value = 0.0
        for i in range(n):
            largest = Z[i, 0] + bias[0]
            for k in range(len(bias)):
                Z[i, k] += bias[k]
                largest = max(largest, Z[i, k])
            own = Z[i, Y[start + i]] - largest
            total = real(0)
            for k in range(len(bias)):
                Z[i, k] = exp(Z[i, k] - largest)
                total += Z[i, k]
            for k in range(len(bias)):
                Z[i, k] *= s[start + i] / total
            Z[i, Y[start + i]] -= s[start + i]
            value += s[start + i] * (np.log(total) - own)
        return value

    @nb.njit(nogil=True, fastmath=SUMS)
    def accumulate(X: Array, start: int, n: int, Z: Array, GT: Array) -> None:
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

    @nb.njit(nogil=True, cache=on_disk)
    def kernel(
        X: Array, Y: Array, s: Array, WT: Array, bias: Array, GT: Array, g_b: Array, tile: int
    ) -> float:
        Z = np.zeros((tile, WT.shape[0]), real)
        value = 0.0
        for start in range(0, X.shape[0], tile):
            n = min(tile, X.shape[0] - start)
            dot(X, start, n, WT, Z)
            value += loss_residual(Y, s, start, n, bias, Z)
            accumulate(X, start, n, Z, GT)
            for i in range(n):
                for k in range(len(bias)):
                    g_b[k] += Z[i, k]
        return value

    return kernel


BUILDERS = {"logistic": _logistic_kernel, "softmax": _softmax_kernel}
PASSES = {"logistic": logistic_pass, "softmax": softmax_pass}
