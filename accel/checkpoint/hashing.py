"""What the data of a run are, as a hash."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from accel.backends.base import row_blocks
from accel.backends.interchange import is_sparse, to_host

Array = Any
HASH_BLOCK_BYTES = 16 << 20


def digest(*arrays: Array) -> str:
    """A hash of the contents, shapes and dtypes of arrays, read block by block.

    Parameters
    ----------
    *arrays : array or None
        NumPy, of another library, or sparse. A source on disk, which has a method
        ``identity() -> str``, is not read: what it returns stands for its contents.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        if hasattr(array, "identity"):
            total.update(f"identity {array.identity()}".encode())
            continue
        parts = [array]
        if is_sparse(array):
            total.update(f"{array.shape}".encode())
            parts = [array.data, array.indices, array.indptr]
        for part in parts:
            if part is None:
                continue
            total.update(f"{part.shape} {part.dtype}".encode())
            row_bytes = 8 * int(np.prod(part.shape[1:]))
            for rows in row_blocks(part.shape[0], row_bytes, HASH_BLOCK_BYTES):
                total.update(np.ascontiguousarray(to_host(part[rows, ...])).tobytes())
    return total.hexdigest()
