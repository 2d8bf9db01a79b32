"""Rows of any object that gives them when it is sliced: h5py.Dataset, zarr.Array."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from accel.backends.base import first_line
from accel.sources.base import (
    DataError,
    Reader,
    Stamp,
    checked_rows,
    delivered_dtype,
    flat_shape,
    identity_of,
)

Array = Any
LOOKS = 16  # rows by which an object without a file is known again


class SlicedSource:
    """Rows that an object gives when it is sliced, one call at a time.

    Parameters
    ----------
    rows : object
        Has shape and dtype, and gives an array for ``rows[start:stop]``.
    """

    is_random = True
    feature_names: tuple[str, ...] | None = None

    def __init__(self, rows: Any) -> None:
        kind = f"{type(rows).__module__.split('.')[0]}.{type(rows).__qualname__}"
        label = getattr(rows, "name", None)
        self.name = f"{kind} {label}" if isinstance(label, str) and label else kind
        self.array_shape: tuple[int, ...] = tuple(rows.shape)
        self.shape = flat_shape(self.name, self.array_shape)
        self.dtype = delivered_dtype(self.name, np.dtype(rows.dtype))
        self._rows = rows
        self._lock = threading.Lock()  # h5py serves one thread at a time, and others may not say

    def reader(self) -> Reader:
        """A reader for one pass."""
        return self._read

    def identity(self) -> str:
        """Type, name, shape and dtype, and what the file of an h5py.Dataset is."""
        file = getattr(getattr(self._rows, "file", None), "filename", None)
        stamps = (Stamp.of(Path(file)),) if isinstance(file, str) and os.path.exists(file) else ()
        # nothing else tells the contents of two stores apart
        some = np.empty((1, self.shape[1]), self.dtype)
        total = hashlib.blake2b(digest_size=8)
        for row in sorted({k * (self.shape[0] - 1) // LOOKS for k in range(LOOKS + 1)}):
            self._read(slice(row, row + 1), some)
            total.update(some.tobytes())
        return identity_of(
            stamps, self.shape, np.dtype(self._rows.dtype), self.name, total.hexdigest()
        )

    def _read(self, rows: slice, out: Array) -> None:
        start, stop = checked_rows(self, rows, out)
        wanted = (stop - start, *self.array_shape[1:])
        with self._lock:
            try:
                block = np.asarray(self._rows[start:stop]).astype(self.dtype, copy=False)
            except Exception as error:  # of whatever type its library raises
                raise DataError(
                    f"{self.name}: X[{start}:{stop}] cannot be read ({first_line(error)})."
                ) from error
        if block.shape != wanted:
            raise DataError(
                f"{self.name}: X[{start}:{stop}] has shape {block.shape}, not {wanted}: its slices "
                "must be rows."
            )
        out[...] = block.reshape(out.shape)
