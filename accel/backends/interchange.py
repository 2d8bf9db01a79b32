"""Arrays of other libraries, recognised without importing those libraries."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from math import prod
from typing import Any

import array_api_compat as compat
import numpy as np

Array = Any
ALIGNMENT = 64  # bytes of a cache line, and of the widest vector
PHASE = 16  # where glibc lets large arrays begin: these need no copy to lie like all others


def is_sparse(array: Any) -> bool:
    """Whether it is a sparse matrix of scipy or cupyx."""
    return hasattr(array, "tocsr")


def _values(array: Any) -> Any:
    """The array itself, or the stored elements of a sparse matrix, which lie where it lies."""
    return array.data if is_sparse(array) and hasattr(array, "data") else array


def is_device_array(array: Any) -> bool:
    """Whether it is an array of a library other than NumPy: cupy, torch, an array API namespace."""
    values = _values(array)
    return compat.is_array_api_obj(values) and not compat.is_numpy_array(values)


def namespace(array: Any) -> Any:
    """The array API namespace of an array; NumPy for whatever NumPy can read."""
    return compat.array_namespace(_values(array)) if is_device_array(array) else np


class _WithOut:
    """Another namespace; its functions write to ``out=`` by assignment."""

    def __init__(self, xp: Any) -> None:
        self._xp, self.__name__ = xp, xp.__name__

    def copyto(self, out: Array, source: Array) -> None:
        """Out = source, converted to the dtype of out."""
        out[...] = self._xp.astype(source, out.dtype, copy=False)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._xp, name)
        if isinstance(member, type) or not callable(member):
            return member

        def function(*arguments: Any, out: Array | None = None, **options: Any) -> Any:
            if out is None:
                return member(*arguments, **options)
            dtype = next(item.dtype for item in arguments if not isinstance(item, int | float))
            arrays = [
                self._xp.asarray(item, dtype=dtype, device=compat.device(out))
                if isinstance(item, int | float)
                else item
                for item in arguments
            ]
            self.copyto(out, member(*arrays, **options))
            return out

        setattr(self, name, function)
        return function


@cache
def with_out(xp: Any) -> Any:
    """The namespace with ``out=`` and ``copyto``, which NumPy and CuPy have already."""
    does = compat.is_numpy_namespace(xp) or compat.is_cupy_namespace(xp)
    return xp if does else _WithOut(xp)


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """A NumPy array whose first byte lies `PHASE` beyond a multiple of 64.

    BLAS and compiled loops may sum in another order where an array begins elsewhere: what is to
    give the same bits in every process must lie alike.
    """
    dtype = np.dtype(dtype)
    n_bytes = int(prod(shape)) * dtype.itemsize
    raw = np.empty(n_bytes + ALIGNMENT, np.uint8)
    first = (PHASE - raw.ctypes.data) % ALIGNMENT
    return raw[first : first + n_bytes].view(dtype).reshape(shape)


def aligned(X: Array) -> Array:
    """A NumPy array itself if it lies so, else a copy that does; others as they are."""
    if not compat.is_numpy_array(X) or X.ctypes.data % ALIGNMENT == PHASE:
        return X
    copy = aligned_empty(X.shape, X.dtype)
    copy[...] = X
    return copy


def rows_of(X: Array, rows: slice) -> Array:
    """Rows of a dense or CSR matrix, as a view where that is possible."""
    if rows == slice(0, X.shape[0]):
        return X
    return _csr_rows(X, rows) if is_sparse(X) else X[rows, :]


def bytes_of(X: Array) -> int:
    """Bytes of what a read of X reads, as it is stored."""
    if is_sparse(X):
        return sum(bytes_of(part) for part in (X.data, X.indices, X.indptr))
    if hasattr(X, "nbytes"):
        return int(X.nbytes)
    return int(prod(X.shape)) * np.dtype(str(X.dtype).rpartition(".")[2]).itemsize


def take_rows(X: Array, rows: slice, dtype: Any, *, xp: Any) -> Array:
    """Rows of a dense or CSR matrix in this dtype, without a copy where that is possible."""
    found = rows_of(X, rows)
    return in_dtype(found, dtype) if is_sparse(X) else xp.astype(found, dtype, copy=False)


def in_dtype(X: Array, dtype: Any) -> Array:
    """A sparse matrix in this dtype; itself where it is (cupyx before 14.2 always copies)."""
    return X if X.dtype == dtype else X.astype(dtype)


def canonical(X: Array) -> Array:
    """A CSR matrix with sorted indices and each place once, checked to lie inside its shape.

    SciPy's own methods put a matrix in this form where it lies, and so write into what others read:
    here it is a matrix of its own over the same arrays, or over copies of them where they change.

    Parameters
    ----------
    X : CSR matrix of scipy or cupyx
        Not modified, its flags included.

    Returns
    -------
    CSR matrix
        Equal to it.

    Raises
    ------
    ValueError
        If an index lies outside: compiled products read memory by them, unchecked.
    """
    (n, d), pointers = X.shape, X.indptr
    n_stored = int(pointers[-1])
    is_sound = (
        len(pointers) == n + 1
        and int(pointers[0]) == 0
        and n_stored <= min(len(X.indices), len(X.data))
        and not bool((pointers[1:] < pointers[:-1]).any())
    )
    stored = X.indices[:n_stored]
    if not is_sound or (n_stored and not 0 <= int(stored.min()) <= int(stored.max()) < d):
        raise ValueError(
            "X is a damaged sparse matrix, its indices lie outside its shape: X.check_format() of "
            "scipy says where."
        )
    own = like_csr(X, X.data)
    if not own.has_canonical_format:
        own = own.copy()
        own.sum_duplicates()
    return own


def like_csr(X: Array, data: Array) -> Array:
    """A matrix with the places of X and other elements."""
    return type(X)((data, X.indices, X.indptr), shape=X.shape)


def rows_at(X: Array, places: Array, *, xp: Any) -> Array:
    """Rows of a dense or CSR matrix by their places, copied."""
    return X[places] if is_sparse(X) else xp.take(X, places, axis=0)


def _csr_rows(X: Array, rows: slice) -> Array:
    """Consecutive rows of a host matrix as views of its arrays; others by its own indexing."""
    start, stop, step = rows.indices(X.shape[0])
    if step != 1 or not compat.is_numpy_array(X.data):
        return X[rows]
    first, last = X.indptr[start], X.indptr[stop]
    block = type(X)((stop - start, X.shape[1]), dtype=X.dtype)
    # assigned, because the constructor copies what is less than half of its base
    block.data, block.indices = X.data[first:last], X.indices[first:last]
    block.indptr = X.indptr[start : stop + 1] - first
    return block


def to_host(array: Any) -> Any:
    """Arrays of other libraries as NumPy, without a copy where they lie in host memory."""
    if not is_device_array(array):
        return array
    if compat.is_cupy_array(_values(array)):
        return array.get()
    if compat.is_torch_array(array):
        array = array.detach().cpu().resolve_neg()
        if str(array.dtype) == "torch.bfloat16":
            return _bfloat16(array)
    return np.from_dlpack(array)


def _bfloat16(tensor: Any) -> Any:
    """A torch tensor of bfloat16 as NumPy: as it lies with ml_dtypes, as float32 without."""
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return tensor.float().numpy()
    return tensor.view(namespace(tensor).int16).numpy().view(bfloat16)


def like(values: Any, array: Any) -> Any:
    """A NumPy array in the namespace and on the device of another array."""
    if not is_device_array(array):
        return values
    return namespace(array).asarray(values, device=compat.device(_values(array)))


def device_of(array: Any) -> AbstractContextManager[Any]:
    """Inside it, the GPU on which a cupy array lies is the current one."""
    values = _values(array)
    return values.device if compat.is_cupy_array(values) else nullcontext()
