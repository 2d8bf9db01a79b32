"""What a path or an object is, and the source for it: one line of a table for each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accel.backends.interchange import is_device_array, is_sparse
from accel.sources import folders
from accel.sources.base import Data, DataError, Source, is_source
from accel.sources.csv import csv_data, csv_rows
from accel.sources.npy import open_memmap, open_npy
from accel.sources.parquet import parquet_data, parquet_rows
from accel.sources.sliced import SlicedSource


class Kind(NamedTuple):
    """How a kind of file or folder is opened, with and without labels."""

    rows: Callable[[Path, Sequence[str] | None], Source]
    data: Callable[[Path, str | None, str | None], Data]


KINDS = {
    "folder": Kind(folders.folder_rows, folders.folder_data),
    ".npy": Kind(lambda path, _: open_npy(path), folders.npy_data),
    ".parquet": Kind(
        lambda path, columns: parquet_rows(path, [path], columns),
        lambda path, target, weight: parquet_data(path, [path], target, weight),
    ),
    ".csv": Kind(csv_rows, csv_data),
}


def open_data(
    path: str | Path,
    *,
    target: str | None = None,
    weight: str | None = None,
    header: bool = True,
) -> Data:
    """Rows on disk, with their labels and weights.

    Parameters
    ----------
    path : str or Path
        A .npy file (labels in Y.npy or y.npy, weights in W.npy or w.npy beside it), a folder with
        X.npy or with shards X*.npy and Y*.npy, a .parquet file or a folder of them, or a .csv file
        with a header.
    target : str, optional
        Where the labels are: a column, the last one where not given; of .npy files, another .npy
        file.
    weight : str, optional
        Where the weights are, in the same way; no column where not given.
    header : bool, default=True
        Whether the first row of a .csv file holds the names of its columns.

    Returns
    -------
    Data
        The rows are not read; labels and weights are, one-hot labels as column numbers.

    Raises
    ------
    DataError
        If the data is missing, damaged, or does not fit together. Values are checked when they are
        read.
    """
    path = Path(path)
    kind = _kind(path)
    if header:
        return kind.data(path, target, weight)
    _check_csv(path)
    return csv_data(path, target, weight, header=False)


def open_rows(
    path: str | Path, columns: Sequence[str] | None = None, *, header: bool = True
) -> Source:
    """Rows on disk without labels: what a model is asked to label.

    Parameters
    ----------
    path : str or Path
        As for `open_data`; labels that may be there are not read.
    columns : sequence of str, optional
        Columns of a table by name, in this order; all where not given.
    header : bool, default=True
        As for `open_data`.

    Returns
    -------
    Source
        Not read yet.

    Raises
    ------
    DataError
        As `open_data`.
    """
    path = Path(path)
    kind = _kind(path)
    if header:
        return kind.rows(path, columns)
    _check_csv(path)
    return csv_rows(path, columns, header=False)


def _check_csv(path: Path) -> None:
    if path.suffix.lower() != ".csv":
        raise DataError(f"{path}: only a .csv file may be without a header.")


def _kind(path: Path) -> Kind:
    wanted = "pass a folder with X.npy and Y.npy, a .npy, .csv or .parquet file"
    if not path.exists():
        raise DataError(f"{path} does not exist: {wanted}.")
    kind = "folder" if path.is_dir() else path.suffix.lower()
    if not (path.is_dir() or path.is_file()):
        raise DataError(f"{path} is no file that can be read twice: {wanted}.")
    if kind not in KINDS:
        raise DataError(f"{path} is not read by blocks: {wanted}, or load an .npz file whole.")
    return KINDS[kind]


def as_source(X: Any) -> Source | None:
    """The source for what an estimator is given as X.

    Parameters
    ----------
    X : object
        A path, a memory map, a source, an object that gives rows when sliced (h5py.Dataset,
        zarr.Array), or anything else.

    Returns
    -------
    Source or None
        None for what is held in memory or on a device, and for what is no matrix at all.

    Raises
    ------
    DataError
        If it is a source and cannot be opened.
    """
    open_it = next(open_it for is_one, open_it in _OPENERS if is_one(X))
    return open_it(X)


def _is_held_in_memory(X: Any) -> bool:
    """Arrays of NumPy and of other libraries, sparse matrices, and collections of dask."""
    marks = ("__array_interface__", "__cuda_array_interface__", "__dlpack__", "__dask_graph__")
    return any(hasattr(X, mark) for mark in marks) or is_sparse(X) or is_device_array(X)


def _gives_rows(X: Any) -> bool:
    """Whether it has what h5py.Dataset has; data frames have no one dtype, lists no shape."""
    if not all(hasattr(X, name) for name in ("shape", "dtype", "__getitem__")):
        return False
    try:
        return len(X.shape) >= 2 and np.dtype(X.dtype) is not None
    except TypeError:
        return False


# The first that fits. A memory map is an array too, so it comes before arrays.
_OPENERS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Source | None]], ...] = (
    (lambda X: isinstance(X, str | Path), lambda X: open_data(X).X),
    (is_source, lambda X: X),
    (
        lambda X: isinstance(X, np.memmap) and getattr(X, "_mmap", None) is not None,
        open_memmap,
    ),  # not a copy of one
    (_is_held_in_memory, lambda _: None),
    (_gives_rows, SlicedSource),
    (lambda _: True, lambda _: None),
)
