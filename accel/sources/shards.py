"""Rows that lie in several sources, one after the other."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from accel.sources.base import (
    DataError,
    Reader,
    Stamp,
    checked_rows,
    identity_of,
)
from accel.sources.npy import FileSource, open_npy, read_header

Array = Any

OPEN_FILES = 64  # of one reader; many systems allow a process 256 or 1024


def naturally(path: Path) -> list[Any]:
    """A key that sorts X_2 before X_10."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


class ShardedSource:
    """The rows of several .npy files, one after the other.

    Parameters
    ----------
    name : str
        What it is, for people.
    files : sequence of Path
        In order; files without rows are left out.

    Raises
    ------
    DataError
        If a file is damaged, or of another width or dtype than the first.
    """

    is_random = True
    feature_names: tuple[str, ...] | None = None

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.name = name
        headers = [read_header(path) for path in files]
        first = headers[0]
        for path, header in zip(files, headers, strict=True):
            if header.shape[1:] != first.shape[1:] or header.dtype != first.dtype:
                raise DataError(
                    f"{path} holds {header.dtype} rows of shape {header.shape[1:]}, "
                    f"{files[0].name} {first.dtype} rows of shape {first.shape[1:]}: all shards "
                    "must be alike."
                )
        self.lengths = [header.shape[0] if header.shape else 0 for header in headers]
        self._parts = [
            open_npy(path, header)
            for path, header, n_rows in zip(files, headers, self.lengths, strict=True)
            if n_rows
        ] or [open_npy(files[0], first)]  # which says what an array without rows lacks
        self._starts = [0, *accumulate(part.shape[0] for part in self._parts)]
        self.shape = (self._starts[-1], self._parts[0].shape[1])
        self.array_shape = (self._starts[-1], *self._parts[0].array_shape[1:])
        self.dtype = self._parts[0].dtype

    def reader(self) -> Reader:
        """A reader for one pass, which holds the files open that were used last."""
        for stamp in self._stamps():
            stamp.check()
        return _ShardReader(self, self._parts, self._starts)

    def identity(self) -> str:
        """Paths, sizes and times of change of the files."""
        return identity_of(self._stamps(), self.shape, self._parts[0].stored)

    def _stamps(self) -> tuple[Stamp, ...]:
        return tuple(part.stamp for part in self._parts if part.stamp)


class _ShardReader:
    def __init__(
        self, source: ShardedSource, parts: Sequence[FileSource], starts: Sequence[int]
    ) -> None:
        self._source, self._starts = source, starts
        self._open: Callable[[int], Reader] = lru_cache(OPEN_FILES)(lambda at: parts[at].reader())

    def __call__(self, rows: slice, out: Array) -> None:
        """Read these rows, in parts where they lie in several files."""
        start, stop = checked_rows(self._source, rows, out)
        row = start
        while row < stop:
            part = bisect_right(self._starts, row) - 1
            first, last = self._starts[part], min(stop, self._starts[part + 1])
            self._open(part)(slice(row - first, last - first), out[row - start : last - start])
            row = last
