"""A .npy file, or the file under a memory map, read in place: pread, never a mapping.

A mapping of a file that shrinks ends the process with SIGBUS; a pread comes back short, and that is
an exception with the name of the file and the row.
"""

from __future__ import annotations

import mmap
import os
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from accel.backends.base import first_line
from accel.sources.base import (
    DataError,
    Reader,
    Source,
    Stamp,
    blocks,
    checked_rows,
    delivered_dtype,
    flat_shape,
    identity_of,
)
from accel.sources.sliced import SlicedSource

Array = Any

CAST_BYTES = 2**18  # values of another dtype are converted piece by piece, in cache


class Header(NamedTuple):
    """What a .npy file says of itself."""

    stamp: Stamp
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int


def read_header(path: Path) -> Header:
    """The header of a .npy file of version 1 to 3; the data is not touched.

    Raises
    ------
    DataError
        If the file cannot be read or is no file of plain arrays.
    """
    try:
        with open(path, "rb") as file:
            if file.peek(2)[:2] == b"PK":
                raise DataError(f"{path} holds several arrays: name it .npz.")
            # version 3 differs from 2 in the names of fields, and fields are refused anyway
            is_first = npy_format.read_magic(file) == (1, 0)
            read = (
                npy_format.read_array_header_1_0 if is_first else npy_format.read_array_header_2_0
            )
            shape, is_fortran, dtype = read(file)
            stamp = Stamp.read(path, os.fstat(file.fileno()))
            return Header(stamp, shape, is_fortran, dtype, file.tell())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except DataError:
        raise
    except Exception as error:  # a damaged header sends its parser anywhere
        raise DataError(
            f"{path} is not a NumPy file of plain arrays ({first_line(error)})."
        ) from None


def open_npy(path: Path, header: Header | None = None) -> FileSource:
    """The rows of a .npy file.

    Parameters
    ----------
    path : Path
        The file.
    header : Header, optional
        Its header, where it was read already.

    Returns
    -------
    FileSource
        Nothing of the data is read yet.

    Raises
    ------
    DataError
        If the file holds no rows of numbers or is cut off.
    """
    header = header or read_header(path)
    if header.dtype.hasobject:
        raise DataError(f"{path} is not a NumPy file of plain arrays (it holds Python objects).")
    source = FileSource(
        path, header.offset, header.dtype, header.shape, header.stamp, header.is_fortran
    )
    n_rows, row_bytes = source.shape[0], source.stored_row_bytes
    whole_rows = (header.stamp.size - header.offset) // row_bytes
    if whole_rows < n_rows:
        raise DataError(
            f"{path} is cut off: X[{max(whole_rows, 0)}] of {n_rows} rows is missing, copy the "
            "file again."
        )
    return source


def open_memmap(X: Any) -> Source:
    """The rows under a memory map: of its file where they lie there row by row, else by slicing."""
    is_in_file = X.filename is not None and X._mmap is not None and X.mode != "c"
    if not (is_in_file and X.flags.c_contiguous and os.path.exists(X.filename)):
        return SlicedSource(X)
    # X.offset is that of the whole map, whatever slice of it X is: addresses tell where X begins
    mapped_from = X.offset - X.offset % mmap.ALLOCATIONGRANULARITY
    inside = X.ctypes.data - np.frombuffer(X._mmap, np.uint8).ctypes.data
    return FileSource(Path(X.filename), mapped_from + inside, X.dtype, X.shape, None)


@dataclass(frozen=True)
class FileSource:
    """Rows that lie one after the other in a file, or columns that do.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        Bytes before the first row.
    stored : dtype
        As the values lie there.
    array_shape : tuple of int
        As it was saved: (n_samples, n_features) or images.
    stamp : Stamp or None
        What the file must still be; None where its owner may write to it.
    is_fortran : bool, default=False
        Whether columns lie one after the other: a block is then read column by column.
    """

    path: Path
    offset: int
    stored: np.dtype[Any]
    array_shape: tuple[int, ...]
    stamp: Stamp | None
    is_fortran: bool = False
    name: str = field(init=False)
    shape: tuple[int, int] = field(init=False)
    dtype: np.dtype[Any] = field(init=False)
    is_random: bool = field(init=False, default=True)
    feature_names: tuple[str, ...] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        name = str(self.path)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "dtype", delivered_dtype(name, self.stored))
        object.__setattr__(self, "shape", flat_shape(name, self.array_shape))

    @property
    def stored_row_bytes(self) -> int:
        """Bytes of one row in the file."""
        return self.shape[1] * self.stored.itemsize

    def reader(self) -> Reader:
        """A reader for one pass; its file is closed when nobody holds it any more."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}.") from None
        read = _PositionReader(self, descriptor)
        if self.stamp is not None:
            self.stamp.check(Stamp.read(self.path, os.fstat(descriptor)))
        return read

    def identity(self) -> str:
        """Path, size, time of change, and how the rows lie there."""
        stamp = self.stamp or Stamp.of(self.path)
        return identity_of((stamp,), self.shape, self.stored, self.offset)


class _PositionReader:
    """Reads at positions, so any number of threads share the one open file."""

    def __init__(self, source: FileSource, descriptor: int) -> None:
        self._source, self._descriptor = source, descriptor
        # No close(): the number of a closed file is given to the next one, and a thread that still
        # reads would read that.
        weakref.finalize(self, os.close, descriptor)

    def __call__(self, rows: slice, out: Array) -> None:
        """Read these rows, in any order."""
        start, stop = checked_rows(self._source, rows, out)
        stored = self._source.stored
        # chosen here: a method kept on the object would keep the object, and its file, alive
        fill = self._fill_by_columns if self._source.is_fortran else self._fill_by_rows
        if stored == out.dtype and stored.isnative:
            fill(start, out)
            return
        for piece in blocks(start, stop, self._source.stored_row_bytes, CAST_BYTES):
            raw = np.empty((piece.stop - piece.start, out.shape[1]), stored)
            fill(piece.start, raw)
            out[piece.start - start : piece.stop - start] = raw

    def _fill_by_rows(self, row: int, out: Array) -> None:
        row_bytes = self._source.stored_row_bytes
        self._read(out.reshape(-1), self._source.offset + row * row_bytes, row, row_bytes)

    def _fill_by_columns(self, row: int, out: Array) -> None:
        n, rest = self._source.shape[0], self._source.array_shape[1:]
        itemsize, column = out.itemsize, np.empty(len(out), out.dtype)
        # the place of each column of the flattened rows among those in the file
        places = np.arange(out.shape[1]).reshape(rest[::-1]).T.reshape(-1)
        for k, place in enumerate(places):
            position = self._source.offset + (int(place) * n + row) * itemsize
            self._read(column, position, row, itemsize)
            out[:, k] = column

    def _read(self, out: Array, position: int, row: int, step: int) -> None:
        """Bytes from a position on, where those of another row begin every so many bytes."""
        name, done, view = self._source.name, 0, memoryview(out.view(np.uint8))
        while done < len(view):  # one call reads at most 2 GiB
            at = row + done // step
            try:
                n_bytes = _read_at(self._descriptor, view[done:], position + done)
            except OSError as error:
                raise DataError(
                    f"{name}: X[{at}] cannot be read ({error.strerror}): check the disk."
                ) from error
            if n_bytes == 0:
                raise DataError(
                    f"{name}: X[{at}] is missing, the file has become shorter while it was read: "
                    "write the file again."
                )
            done += n_bytes


def _read_at(descriptor: int, view: memoryview, position: int) -> int:
    """Bytes from a position into memory; as many as were read, 0 at the end of the file."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], position)
    content = os.pread(descriptor, min(len(view), 2**24), position)  # macOS has no preadv
    view[: len(content)] = content
    return len(content)
