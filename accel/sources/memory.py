"""An array in host memory as a source."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.sources.base import Reader

Array = Any


class ArraySource:
    """An array in host memory as a source of rows; see `accel.sources.base.Source`.

    Parameters
    ----------
    array : ndarray (n_samples, n_features)
        Of a storage dtype.
    """

    is_random = True
    feature_names = None

    def __init__(self, array: Array) -> None:
        self._array = array
        self.name, self.shape, self.dtype = "X", array.shape, array.dtype

    def reader(self) -> Reader:
        """A copy of rows."""

        def read(rows: slice, out: Array) -> None:
            np.copyto(out, self._array[rows])

        return read

    def identity(self) -> str:
        """Its place in memory: it stands for itself in this process only."""
        return f"array {id(self._array)} {self.shape} {self.dtype}"
