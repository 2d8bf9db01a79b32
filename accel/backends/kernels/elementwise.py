"""Numbers of the fused CPU passes: decoding of storage, exp and log1p that vectorise.

The library's exp and log1p do not vectorise as called from a loop and cost more than the data on
thin matrices; these are series of stated error, without branches, tested against mpmath.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numba import types
from numba.extending import overload


@nb.njit(inline="always")
def exp_float32(x: Any) -> Any:
    """exp(x) for x <= 0, relative error below 2e-7; 0 below -87, where it is 1.6e-38.

    x = n ln 2 + r with |r| <= ln(2)/2 (Cody & Waite), Taylor series of degree 7 in r: truncation
    below (ln(2)/2)^8 / 8! = 5.2e-9.
    """
    tiny = x < np.float32(-87.0)
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
    power = np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32(0) if tiny else p * power


@nb.njit(inline="always")
def exp_float64(x: Any) -> Any:
    """exp(x) for x <= 0, relative error below 5e-16; 0 below -708, where it is 3e-308.

    As `exp_float32`, with degree 13: truncation below (ln(2)/2)^14 / 14! = 4.2e-18.
    """
    tiny = x < -708.0
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
    power = np.int64((np.int64(n) + np.int64(1023)) << np.int64(52)).view(np.float64)
    return 0.0 if tiny else p * power


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
def half_as_float32(bits: Any) -> Any:
    """The bits of a finite float16, as uint16, to float32, exactly, subnormals included."""
    magnitude = np.uint32((np.uint32(bits) & np.uint32(0x7FFF)) << np.uint32(13))
    # The sign as a factor, without a branch: 1 - 2 * signbit.
    sign = np.float32(1) - np.float32(np.uint32(bits) >> np.uint32(15)) * np.float32(2)
    return magnitude.view(np.float32) * np.float32(2.0**112) * sign


@nb.njit(inline="always")
def bfloat_as_float32(bits: Any) -> Any:
    """The bits of a bfloat16, as uint16, to float32, exactly."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


def decode(x: Any) -> Any:
    """An element of X as a number of the arithmetic; compiled code only."""
    raise NotImplementedError


@overload(decode, inline="always")
def _decode(x):  # type: ignore[no-untyped-def] # numba compares signatures
    if x == types.uint16:
        return lambda x: half_as_float32(x)
    if x == types.int16:
        return lambda x: bfloat_as_float32(x)
    return (lambda x: x) if x == types.float64 else (lambda x: np.float32(x))


def exp(x: Any) -> Any:
    """exp(x) for x <= 0; compiled code only."""
    raise NotImplementedError


@overload(exp, inline="always")
def _exp(x):  # type: ignore[no-untyped-def] # numba compares signatures
    return (lambda x: exp_float64(x)) if x == types.float64 else (lambda x: exp_float32(x))


def log1p(e: Any) -> Any:
    """log(1 + e) for 0 <= e <= 1; compiled code only."""
    raise NotImplementedError


@overload(log1p, inline="always")
def _log1p(e):  # type: ignore[no-untyped-def] # numba compares signatures
    return (lambda e: log1p_float64(e)) if e == types.float64 else (lambda e: log1p_float32(e))
