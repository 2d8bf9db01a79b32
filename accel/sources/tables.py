"""Rows and columns of tables, decoded by pyarrow batch by batch: what .parquet and .csv share."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accel.backends.base import first_line
from accel.sources.base import DataError, InOrder, Reader, Stamp, identity_of

Array = Any


def arrow(path: Path, module: str = "pyarrow") -> Any:
    """A module of pyarrow, imported now; the path is that of the file that needs it.

    Raises
    ------
    DataError
        If pyarrow is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError(f'{path} needs pyarrow: pip install "accel[cli]".') from None


class Batch(NamedTuple):
    """Some rows of a table.

    Attributes
    ----------
    path : Path
        The file.
    first : int
        Rows before these in the file.
    rows : pyarrow.RecordBatch
        The rows.
    """

    path: Path
    first: int
    rows: Any


@dataclass(frozen=True)
class TableSource:
    """Rows of a table, in the order of its files only.

    Parameters
    ----------
    name : str
        What it is, for people.
    shape : tuple of int
        (n_samples, n_features).
    dtype : dtype
        What is delivered.
    feature_names : tuple of str
        The columns, in the order in which they are delivered.
    stamps : tuple of Stamp
        What the files must still be.
    batches : callable
        Starts to read: an iterator of `Batch` over all rows.
    """

    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    feature_names: tuple[str, ...]
    stamps: tuple[Stamp, ...]
    batches: Callable[[], Iterator[Batch]]
    is_random: bool = field(init=False, default=False)

    def reader(self) -> Reader:
        """A reader for one pass."""
        for stamp in self.stamps:
            stamp.check()
        decoder = _Decoder(self, self.batches())
        return InOrder(self, decoder.fill, decoder.close)

    def identity(self) -> str:
        """Paths, sizes and times of change, and the columns."""
        return identity_of(self.stamps, self.shape, self.dtype, *self.feature_names)


class _Decoder:
    """The next rows of a table, whatever the size of its batches."""

    def __init__(self, source: TableSource, batches: Iterator[Batch]) -> None:
        self._source, self._batches = source, batches
        self._left: Batch | None = None

    def fill(self, out: Array) -> None:
        """Put the next rows into the array."""
        done = 0
        while done < len(out):
            batch = self._left or next(self._batches, None)
            if batch is None:
                raise DataError(f"{self._source.name} ended early, it has changed: open it again.")
            part = batch._replace(rows=batch.rows.slice(0, len(out) - done))
            n_rows = part.rows.num_rows
            self._decode(part, out[done : done + n_rows])
            rest = batch.rows.slice(n_rows)
            self._left = batch._replace(first=batch.first + n_rows, rows=rest) if rest else None
            done += n_rows

    def _decode(self, batch: Batch, out: Array) -> None:
        """The columns side by side, in one call of Arrow; one by one where it finds a fault."""
        names = self._source.feature_names
        pyarrow = arrow(batch.path)
        kind = pyarrow.from_numpy_dtype(out.dtype)
        schema = pyarrow.schema([(name, kind) for name in names])
        try:
            out[...] = batch.rows.select(names).cast(schema, safe=False).to_tensor().to_numpy()
        except pyarrow.ArrowException:
            for place, name in enumerate(names):
                column = batch.rows.column(name)
                out[:, place] = numbers(batch.path, column, name, out.dtype, batch.first)

    def close(self) -> None:
        """Let go of the file and of the rows that are left."""
        self._left, batches = None, self._batches
        self._batches = iter(())
        getattr(batches, "close", lambda: None)()


def numbers(path: Path, column: Any, name: str, dtype: Any = np.float64, first: int = 0) -> Array:
    """A column as numbers; rows are counted from 1, below the header.

    Parameters
    ----------
    path : Path
        The file it is from.
    column : pyarrow.Array or pyarrow.ChunkedArray
        Its values.
    name : str
        Its name.
    dtype : dtype
        The dtype wanted.
    first : int
        Rows of the file before these.

    Returns
    -------
    ndarray (n_rows,)
        The values.

    Raises
    ------
    DataError
        If a value is missing or no number, with the row.
    """
    pyarrow, compute = arrow(path), arrow(path, "pyarrow.compute")
    where = f"{path}, column {name!r}"
    if column.null_count:
        row = first + int(compute.index(compute.is_null(column), True).as_py()) + 1
        raise DataError(f"{where}: row {row} is empty, put a number there.")
    is_text = pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)
    values = compute.utf8_trim(column, " \t") if is_text else column
    try:
        return np.asarray(values.cast(pyarrow.from_numpy_dtype(dtype), safe=False))
    except pyarrow.ArrowException:
        if not is_text:
            kind = f"{where} holds {column.type} values: features must be numbers."
            raise DataError(kind) from None
    texts = zip(column.to_pylist(), values.to_pylist(), strict=True)
    row, text = next(
        (row, text) for row, (text, value) in enumerate(texts, first + 1) if _is_text(path, value)
    )
    raise DataError(f"{where} holds the text {text!r} in row {row}: features must be numbers.")


def _is_text(path: Path, text: str) -> bool:
    """Whether Arrow does not read it as a number."""
    pyarrow = arrow(path)
    try:
        pyarrow.scalar(text).cast(pyarrow.float64())
    except pyarrow.ArrowException:
        return True
    return False


def labels(path: Path, column: Any, name: str) -> Array:
    """A column of labels, whole: numbers as they are, everything else as text.

    Raises
    ------
    DataError
        If a label is missing or no text in UTF-8.
    """
    types = arrow(path).types
    if column.null_count:
        raise DataError(f"{path}, target {name!r} has {column.null_count} empty rows: fill them.")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    y = column.to_numpy()
    try:
        return y.astype(str) if y.dtype == object else y
    except UnicodeDecodeError:
        raise DataError(f"{path}, target {name!r} is not text in UTF-8: convert it.") from None


def split_columns(
    path: Path, names: Sequence[str], target: str | None, weight: str | None = None
) -> tuple[tuple[str, ...], str]:
    """The columns of X, and that of the target: the last one where none is named.

    Raises
    ------
    DataError
        If a column is named twice or is not there, or none is left for X.
    """
    checked_names(path, names)
    rest = [name for name in names if name != weight]
    for role, name in (("target", target), ("weight", weight)):
        if name is not None and name not in names:
            raise DataError(f"{path} has no column {name!r} for {role}: {', '.join(names)}.")
    target = target or (rest or list(names))[-1]
    features = tuple(name for name in rest if name != target)
    _checked_features(path, features)
    if not features:
        is_separated = any(mark in target for mark in (";", "\t", "|"))
        hint = ", separate columns by commas" if is_separated else ""
        raise DataError(f"{path} has no column beside the target {target!r}{hint}.")
    return features, target


def checked_names(path: Path, names: Sequence[str]) -> None:
    """Raise a DataError if two columns have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path} has two columns named {name!r}: rename one.")
        seen.add(name)


def _checked_features(path: Path, names: Sequence[str]) -> None:
    """Raise a DataError where a column has no name: the row numbers that pandas writes."""
    for place, name in enumerate(names):
        if not name or name.startswith("Unnamed: "):
            raise DataError(
                f"{path}: column {place + 1} has no name, as the row numbers that pandas writes: "
                "leave it out, with to_csv(index=False), or give it a name."
            )


def named_columns(
    path: Path, names: Sequence[str], wanted: Sequence[str] | None
) -> tuple[str, ...]:
    """The columns a model asks for by name, in its order; all where it names none.

    Raises
    ------
    DataError
        If one is not there.
    """
    checked_names(path, names)
    chosen = tuple(str(name) for name in (names if wanted is None else wanted))
    if wanted is None:
        _checked_features(path, chosen)
    missing = [name for name in chosen if name not in names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}: the model needs it by name.")
    return chosen


def unreadable(path: Path, error: BaseException, row: int | None = None) -> DataError:
    """The error for a file that pyarrow cannot read, at a row counted from 1."""
    where = "" if row is None else f" from row {row} on"
    return DataError(f"{path} cannot be read{where} ({first_line(error)}).")
