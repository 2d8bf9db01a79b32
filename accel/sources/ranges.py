"""Consecutive rows of a source as a source of their own: what one worker of a cluster reads."""

from __future__ import annotations

from typing import Any

from accel.sources.base import DataError, Reader, Source, checked_rows

Array = Any


class RowRange:
    """Rows start to stop of a source; see `accel.sources.base.Source`.

    Parameters
    ----------
    source : Source
        Whose rows can be read in any order.
    start, stop : int
        First row, and the row after the last.

    Raises
    ------
    DataError
        If the source is read in order only.
    """

    is_random = True

    def __init__(self, source: Source, start: int, stop: int) -> None:
        if not source.is_random:
            raise DataError(
                f"{source.name} is read in order and cannot be cut into ranges: save it as .npy, "
                "or read it by dask.dataframe (read_parquet, read_csv)."
            )
        self.source, self.start, self.stop = source, start, stop
        self.name = f"{source.name}[{start}:{stop}]"
        self.shape, self.dtype = (stop - start, source.shape[1]), source.dtype
        self.feature_names = source.feature_names

    @property
    def nbytes(self) -> int:
        """Of its rows as they are delivered."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def reader(self) -> Reader:
        """The source's own, rows counted from the first of these."""
        read = self.source.reader()

        def read_range(rows: slice, out: Array) -> None:
            first, last = checked_rows(self, rows, out)
            read(slice(self.start + first, self.start + last), out)

        return read_range

    def identity(self) -> str:
        """That of the source, and the range."""
        return f"{self.source.identity()} {self.start}:{self.stop}"
