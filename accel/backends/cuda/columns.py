"""A look at the columns of X on an NVIDIA GPU: mean, spread and largest magnitude, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.backends.cuda.device import Device, device_of, load_bytes_of
from accel.backends.cuda.linear_pass import NULL, REDUCE_BYTES, REDUCE_COLUMNS, REDUCE_THREADS
from accel.backends.cuda.rows_layout import Rows, rows_layout
from accel.backends.cuda.source import STORAGE, function_of, macros_of

Array = Any
# Of a lane beside the coefficients' place and the sums: their largest magnitudes, or scales.
OUTPUTS = 2


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
    if dtype not in STORAGE or (X.strides[1] != itemsize and d > 1):
        return None
    pitch = X.strides[0] // itemsize if n > 1 else d
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
    unit = cupy.where(largest > 0, largest, 1.0)
    return mean, unit, sums("SPREAD", 1, mean, 1 / unit)


def layout_of(dtype: str, d: int, load_bytes: int, device: Device) -> Rows | None:
    """The layout of rows.cu for a look at d columns; None where it has none."""
    for shorter in (load_bytes, 8, 4, STORAGE[dtype][2]):
        if STORAGE[dtype][2] <= shorter <= load_bytes:
            layout = rows_layout(dtype, "float64", d, OUTPUTS, shorter, device)
            if layout is not None:
                return layout
    return None


def _added(cupy: Any, index: int, partial: Array, d: int, *, is_peak: bool) -> Array:
    """Sums over the teams, of the second d columns the largest."""
    macros = {**macros_of(None, "float64", None, 1), "PEAKS": int(is_peak)}
    out = cupy.empty(partial.shape[1], dtype=np.float64)
    size = partial.shape[1]
    numbers = 0, partial.shape[0], size, d if is_peak else size, 0
    function_of(cupy, index, "reduce_teams", ("reduce.cu",), macros)(
        (-(-size // REDUCE_COLUMNS),),
        (REDUCE_THREADS,),
        (NULL, partial, *map(np.int32, numbers), NULL, NULL, NULL, NULL, out),
        shared_mem=REDUCE_BYTES,
    )
    return out
