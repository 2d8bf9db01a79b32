"""What a source of rows is, and what all kinds share: dtypes, shapes, stamps of files, turns."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np

from accel.backends.base import row_blocks

Array = Any
Reader = Callable[[slice, Array], None]

# What is trained on as it lies; every other real dtype is delivered as float64.
STORED = ("float64", "float32", "float16", "uint8", "int8", "bfloat16")
BLOCK_BYTES = 2**20  # what this package reads at a time on its own account


class DataError(ValueError):
    """Data that cannot be used: the message names the file and what to do."""


class Source(Protocol):
    """Rows of a matrix that lie on disk, or behind any object that slices, read block by block."""

    @property
    def name(self) -> str:
        """What it is, for people: a path or a type."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_features); images are flattened to rows."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What a reader delivers, one of `STORED`."""

    @property
    def is_random(self) -> bool:
        """Whether rows can be read in any order at no extra cost."""

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the columns, where the source has them."""

    def reader(self) -> Reader:
        """A reader for one pass.

        Returns
        -------
        callable
            ``read(rows, out)`` fills `out`, C-contiguous (rows, n_features) in host memory. Several
            threads may call it at once. Where the source is not random, their blocks lie side by
            side from row 0 on, and each waits for its turn.

        Raises
        ------
        DataError
            If the data has changed since the source was opened; from the reader, if rows cannot be
            read, with the file and the row.
        """

    def identity(self) -> str:
        """What it is, without reading it: paths, sizes, times of change, shape and dtype."""


def is_source(X: Any) -> TypeGuard[Source]:
    """Whether an object reads like a `Source`, be it one itself or a wrapper around one.

    Its methods are looked for on the object, since a wrapper may delegate them, and must be
    callable: a data frame has attributes of the names of its columns.
    """
    return all(callable(getattr(X, name, None)) for name in ("reader", "identity"))


@dataclass(frozen=True)
class Data:
    """Rows on disk with the labels and weights that belong to them.

    Parameters
    ----------
    X : Source (n_samples, n_features)
        Rows, not read yet.
    y : ndarray (n_samples,) or None
        Labels on the host; None where there are none.
    sample_weight : ndarray (n_samples,) or None
        float64, on the host; None where there are none.
    name : str
        What it is, for people.
    feature_names : tuple of str or None
        Names of the columns, where the source has them.
    image_shape : tuple of int or None
        Height and width, where the rows are images.
    """

    X: Source
    y: Array
    sample_weight: Array
    name: str
    feature_names: tuple[str, ...] | None = None
    image_shape: tuple[int, int] | None = None


def delivered_dtype(where: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which values of this dtype are read.

    Raises
    ------
    DataError
        If they are no real numbers.
    """
    native = dtype.newbyteorder("=")
    if native.name in STORED:
        return native
    if dtype.kind not in "biuf":
        raise DataError(f"{where}: X holds {dtype} values, numbers are needed.")
    return np.dtype(np.float64)


def flat_shape(where: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """(n_samples, n_features) of rows of any shape.

    Raises
    ------
    DataError
        If there is nothing in them.
    """
    if len(shape) < 2 or min(shape) < 1:
        raise DataError(f"{where}: X has shape {shape}, (n_samples, n_features) is needed.")
    return int(shape[0]), int(np.prod(shape[1:]))


def image_shape(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Height and width, where rows of this shape are images."""
    return (int(shape[1]), int(shape[2])) if len(shape) == 3 else None


def blocks(start: int, stop: int, row_bytes: int, n_bytes: int = BLOCK_BYTES) -> Iterator[slice]:
    """Consecutive rows in blocks of at most so many bytes, or one row."""
    cuts = row_blocks(stop - start, row_bytes, n_bytes)
    return (slice(start + rows.start, start + rows.stop) for rows in cuts)


def row_bytes(source: Source) -> int:
    """Bytes of one row as it is delivered."""
    return source.shape[1] * source.dtype.itemsize


def checked_rows(source: Source, rows: slice, out: Array) -> tuple[int, int]:
    """First and last of the rows to be read; a wrong `out` is a mistake of the caller's."""
    start, stop, step = rows.indices(source.shape[0])
    wanted = (max(stop - start, 0), source.shape[1])
    if step != 1 or out.shape != wanted or out.dtype != source.dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"{source.name}: out is {out.dtype} {out.shape}, rows {start} to {stop} need "
            f"{source.dtype} {wanted}, C-contiguous, and step 1."
        )
    return start, stop


class Stamp(NamedTuple):
    """What a file was when it was opened."""

    path: Path
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file as it is now."""
        try:
            return cls.read(path, os.stat(path))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None

    @classmethod
    def read(cls, path: Path, stat: os.stat_result) -> Stamp:
        """The stamp from a stat that was made already."""
        return cls(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)

    def check(self, now: Stamp | None = None) -> None:
        """Raise a DataError if the file is no longer what it was."""
        if (now or Stamp.of(self.path)) != self:
            raise DataError(f"{self.path} has changed since it was opened: open it again.")


def identity_of(stamps: tuple[Stamp, ...], shape: tuple[int, int], *more: Any) -> str:
    """One line a file, and what was read from their headers."""
    lines = [f"{stamp.path.resolve()} {stamp.size} {stamp.mtime_ns}" for stamp in stamps]
    return "\n".join([*lines, " ".join(str(item) for item in (shape, *more))])


class InOrder:
    """A reader that lets threads in by the order of their rows.

    A thread that comes early waits until the rows before its own are read. When a read fails or the
    reader is closed, every thread that waits gets the same sentence, so none waits for ever.

    Parameters
    ----------
    source : Source
        Where the rows come from.
    fill : callable
        Puts the next rows into the array it is given.
    end : callable
        Lets go of the files.
    """

    def __init__(
        self, source: Source, fill: Callable[[Array], None], end: Callable[[], None]
    ) -> None:
        self._source, self._fill, self._end = source, fill, end
        self._turn = threading.Condition()
        self._next = 0
        self._stopped: str | None = None

    def __call__(self, rows: slice, out: Array) -> None:
        """Wait for the turn of these rows and read them."""
        start, stop = checked_rows(self._source, rows, out)
        with self._turn:
            self._turn.wait_for(lambda: self._stopped is not None or self._next >= start)
            if self._stopped is not None:
                raise DataError(self._stopped)
            if self._next > start:
                raise ValueError(
                    f"{self._source.name} is read in order, and row {start} was read already: "
                    "take a new reader for a new pass."
                )
            try:
                self._fill(out)
            except BaseException as error:
                self._stop(str(error) or f"{self._source.name}: the reading was broken off.")
                raise
            self._next = stop
            self._turn.notify_all()

    def close(self) -> None:
        """Let go of the files; who waits or reads on gets a DataError."""
        with self._turn:
            self._stop(f"{self._source.name}: this reader is closed, take a new one.")

    def _stop(self, why: str) -> None:
        self._stopped = self._stopped or why
        self._end()
        self._turn.notify_all()


def close(read: Reader) -> None:
    """Close a reader that is not needed any more; one that holds nothing has no such method."""
    getattr(read, "close", lambda: None)()
