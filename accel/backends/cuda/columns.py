"""A look at the columns of X on an NVIDIA GPU: mean, spread and largest magnitude, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.backends.cuda.device import Device, device_of, load_bytes_of, pitch_of
from accel.backends.cuda.reduction import Reduction
from accel.backends.cuda.rows_layout import RowsLayout, longest_rows, rows_layout
from accel.backends.cuda.source import NULL, STORAGE, function_of, macros_of

Array = Any
# A lane keeps two numbers of each column, sum and largest magnitude or sum and scale: as many
# registers as a pass of two outputs.
OUTPUTS = 2
LEAST = float(np.finfo(np.float64).tiny)


def column_sums(cupy: Any, index: int, X: Array, s: Array) -> tuple[Array, Array, Array] | None:
    r"""Weighted mean, largest magnitude and mean square about the mean of every column.

    .. math:: \mu = \sum_i s_i x_i, \qquad u = \max_i |x_i|, \qquad
              v = \sum_i s_i \left(\frac{x_i - \mu}{u}\right)^2

    Parameters
    ----------
    cupy : module
        CuPy.
    index : int
        Of the GPU, the current one.
    X : array (n, d)
        Rows, in a storage dtype; a view, if the elements of a row lie side by side.
    s : array (n,) of float64
        Weights of sum one.

    Returns
    -------
    tuple of array (d,) of float64, or None
        mu, u (one where a column is all zero) and v; None where no kernel reads such an X.
    """
    n, d = X.shape
    itemsize, dtype = X.dtype.itemsize, str(X.dtype)
    pitch = pitch_of(X)
    if dtype not in STORAGE or pitch is None:
        return None
    device = device_of(cupy, index)
    layout = layout_of(dtype, d, load_bytes_of(itemsize, d, pitch, X.data.ptr), device)
    if layout is None:
        return None
    blocks = layout.grid(n, device)
    teams = blocks // layout.cluster

    def sums(what: str, arrays: int, mean: Any, scale: Any) -> Array:
        macros = {
            **macros_of(dtype, "float64", None, 1), **layout.macros,
            "WHAT": what, "SHIFT": 0, "STREAMS": 0,
        }  # fmt: skip
        shared = layout.shared_bytes(itemsize, 1, 8, arrays)
        files = ("numbers.cuh", "losses.cuh", "rows.cu")
        partial = cupy.empty((teams, arrays * d), dtype=np.float64)
        sizes = np.int64(n), np.int64(pitch), np.int32(d), np.int32(0)
        function_of(cupy, index, "linear_rows", files, macros, shared)(
            (blocks,),
            (layout.threads,),
            (X, NULL, s, mean, scale, NULL, NULL, *sizes, NULL, partial, NULL),
            shared_mem=shared,
        )
        return _added(cupy, index, partial, d, is_peak=arrays == 2)

    both = sums("MOMENTS", 2, NULL, NULL)
    mean, largest = both[:d], both[d:]
    # the inverse of a subnormal number overflows
    unit = cupy.where(largest > 0, cupy.maximum(largest, LEAST), 1.0)
    return mean, unit, sums("SPREAD", 1, mean, 1 / unit)


def layout_of(dtype: str, d: int, load_bytes: int, device: Device) -> RowsLayout | None:
    """The layout of rows.cu for a look at d columns; None where it has none."""
    shape = dtype, "float64", d, OUTPUTS
    found = longest_rows(*shape, load_bytes, device)
    return found or rows_layout(*shape, STORAGE[dtype][2], device)


def _added(cupy: Any, index: int, partial: Array, d: int, *, is_peak: bool) -> Array:
    """Sums over the teams, of the second d columns the largest."""
    size = partial.shape[1]
    out = cupy.empty(size, dtype=np.float64)
    add = Reduction(cupy, index, "float64", 1, has_peaks=is_peak)
    add(NULL, partial, (d if is_peak else size, 0), (NULL, NULL, NULL), NULL, out)
    return out
