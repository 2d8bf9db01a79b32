"""Rows of one or several .parquet files, by batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from accel.sources.base import STORED, Data, DataError, Stamp
from accel.sources.tables import (
    Batch,
    TableSource,
    arrow,
    labels,
    named_columns,
    numbers,
    split_columns,
    unreadable,
)

Array = Any

# A batch costs a call for every column: of 1 MiB, 784 columns take four times longer.
BATCH_BYTES = 2**23
BUFFER_BYTES = 2**24  # of all columns together: Parquet reads every column through its own buffer


def parquet_rows(
    path: Path, files: Sequence[Path], columns: Sequence[str] | None = None
) -> TableSource:
    """Rows without labels: all columns, or those that are named, in that order.

    Parameters
    ----------
    path : Path
        What was asked for, a file or a folder.
    files : sequence of Path
        The files, in order.
    columns : sequence of str, optional
        Columns of X.

    Returns
    -------
    TableSource
        In the dtype of the columns where they have one that is trained on, else float64.

    Raises
    ------
    DataError
        If a file is damaged, or a column is missing or holds no numbers.
    """
    stamps = tuple(Stamp.of(file) for file in files)
    schemas = [_schema(file) for file in files]
    names = named_columns(files[0], _column_names(schemas[0][0]), columns)
    dtypes = {
        _dtype(file, schema, name)
        for file, (schema, _) in zip(files, schemas, strict=True)
        for name in names
    }
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float64)
    n_rows = sum(length for _, length in schemas)
    if n_rows == 0:
        raise DataError(f"{path} has columns but no rows.")
    batches = partial(_batches, files, names, dtype.itemsize)
    return TableSource(str(path), (n_rows, len(names)), dtype, names, stamps, batches)


def parquet_data(path: Path, files: Sequence[Path], target: str | None, weight: str | None) -> Data:
    """Rows, with the labels and weights read from their columns, whole.

    Parameters
    ----------
    path : Path
        What was asked for, a file or a folder.
    files : sequence of Path
        The files, in order.
    target : str or None
        The column of the labels; the last one where None.
    weight : str or None
        The column of the weights.

    Returns
    -------
    Data
        Rows not read yet.
    """
    features, target = split_columns(files[0], _column_names(_schema(files[0])[0]), target, weight)
    X = parquet_rows(path, files, features)
    y = np.concatenate([labels(file, _column(file, target), target) for file in files])
    sample_weight = (
        np.concatenate([numbers(file, _column(file, weight), weight) for file in files])
        if weight
        else None
    )
    return Data(X, y, sample_weight, str(path), features)


def _schema(file: Path) -> tuple[Any, int]:
    """The columns of a file and the number of its rows."""
    with _opened(file) as parquet:
        return parquet.schema_arrow, parquet.metadata.num_rows


def _opened(file: Path, buffer_bytes: int = 0) -> Any:
    parquet = arrow(file, "pyarrow.parquet")
    try:
        return parquet.ParquetFile(file, buffer_size=buffer_bytes, pre_buffer=False)
    except (arrow(file).ArrowException, OSError) as error:
        raise unreadable(file, error) from None


def _column_names(schema: Any) -> list[str]:
    """All columns but the index that pandas writes beside them."""
    index = (schema.pandas_metadata or {}).get("index_columns", ())
    return [name for name in schema.names if name not in index]


def _dtype(file: Path, schema: Any, name: str) -> np.dtype[Any]:
    """The dtype in which a column is delivered: its own, or float64."""
    types = arrow(file).types
    if name not in schema.names:
        raise DataError(f"{file} has no column {name!r}: all files must have the same columns.")
    kind = schema.field(name).type
    is_number = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    if types.is_null(kind):
        raise DataError(f"{file}, column {name!r}: row 1 is empty, put a number there.")
    if not any(test(kind) for test in is_number):
        raise DataError(f"{file}, column {name!r} holds {kind} values: features must be numbers.")
    own = np.dtype(np.float64 if types.is_decimal(kind) else kind.to_pandas_dtype())
    return own if own.name in STORED else np.dtype(np.float64)


def _column(file: Path, name: str) -> Any:
    """One column, whole."""
    with _opened(file) as parquet:
        try:
            table = parquet.read(columns=[name])
        except (arrow(file).ArrowException, OSError) as error:
            raise unreadable(file, error) from None
    if name not in table.column_names:
        raise DataError(f"{file} has no column {name!r}: all files must have the same columns.")
    return table[name]


def _batches(files: Sequence[Path], names: Sequence[str], itemsize: int) -> Iterator[Batch]:
    """All rows; beside the batch, Parquet holds one page of every column, up to 1 MiB each."""
    batch_rows = max(1, min(2**16, BATCH_BYTES // (len(names) * itemsize)))
    buffer_bytes = max(2**12, min(2**20, BUFFER_BYTES // len(names)))
    for file in files:
        first = 0
        with _opened(file, buffer_bytes) as parquet:
            try:
                for rows in parquet.iter_batches(batch_rows, columns=list(names)):
                    yield Batch(file, first, rows)
                    first += rows.num_rows
            except (arrow(file).ArrowException, OSError) as error:
                raise unreadable(file, error, first + 1) from None
