"""Arrays of other libraries, recognised without importing those libraries."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat as compat
import numpy as np

Array = Any


def is_device_array(array: Any) -> bool:
    """Whether it is an array of a library other than NumPy: cupy, torch, an array API namespace."""
    return compat.is_array_api_obj(array) and not compat.is_numpy_array(array)


def namespace(array: Any) -> Any:
    """The array API namespace of an array; NumPy for whatever NumPy can read."""
    return compat.array_namespace(array) if is_device_array(array) else np


def is_sparse(array: Any) -> bool:
    """Whether it is a sparse matrix of scipy or cupyx."""
    return hasattr(array, "tocsr")


def take_rows(X: Array, rows: slice, dtype: Any, *, xp: Any) -> Array:
    """Rows of a dense or CSR matrix in this dtype; a CSR matrix has it already."""
    if is_sparse(X):
        return X if rows == slice(0, X.shape[0]) else X[rows]
    return xp.astype(X[rows, :], dtype, copy=False)


def to_host(array: Any) -> Any:
    """Arrays of other libraries as NumPy, without a copy where they lie in host memory."""
    if not is_device_array(array):
        return array
    if compat.is_cupy_array(array):
        return array.get()
    if compat.is_torch_array(array):
        array = array.detach().cpu()
    return np.from_dlpack(array)


def like(values: Any, array: Any) -> Any:
    """A NumPy array in the namespace and on the device of another array."""
    if not is_device_array(array):
        return values
    return namespace(array).asarray(values, device=compat.device(array))


def device_of(array: Any) -> AbstractContextManager[Any]:
    """Inside it, the GPU on which a cupy array lies is the current one."""
    return array.device if compat.is_cupy_array(array) else nullcontext()
