"""Rows of a .csv file with a header, parsed block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from accel.backends.base import first_line
from accel.sources.base import Data, DataError, Stamp
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

PARSE_BYTES = 2**22  # a row must fit


def csv_rows(path: Path, columns: Sequence[str] | None = None) -> TableSource:
    """Rows without labels: all columns, or those that are named, in that order.

    Parameters
    ----------
    path : Path
        The file.
    columns : sequence of str, optional
        Columns of X.

    Returns
    -------
    TableSource
        float64. The file was read once, to count its rows.

    Raises
    ------
    DataError
        If it is no table with a header, has no rows, or lacks a column.
    """
    stamp = Stamp.of(path)
    found = _columns(path)
    features = named_columns(path, [name for name, _ in found], columns)
    return _source(path, stamp, dict(found), features, _scan(path, features[:1]).num_rows)


def csv_data(path: Path, target: str | None, weight: str | None) -> Data:
    """Rows, with the labels and weights read from their columns, whole.

    Parameters
    ----------
    path : Path
        The file.
    target : str or None
        The column of the labels; the last one where None.
    weight : str or None
        The column of the weights.

    Returns
    -------
    Data
        Rows counted, but not read yet.

    Raises
    ------
    DataError
        As `csv_rows`, and if a label or weight is missing.
    """
    stamp = Stamp.of(path)
    found = _columns(path)
    features, target = split_columns(path, [name for name, _ in found], target, weight)
    table = _scan(path, [target, weight] if weight else [target])
    X = _source(path, stamp, dict(found), features, table.num_rows)
    y = labels(path, _narrowed(path, table[target], target), target)
    sample_weight = (
        numbers(path, _narrowed(path, table[weight], weight), weight) if weight else None
    )
    return Data(X, y, sample_weight, str(path), features)


def _source(
    path: Path, stamp: Stamp, found: dict[str, Any], features: tuple[str, ...], n_rows: int
) -> TableSource:
    """Features as float64; true and false, as they are in the first block, as 1 and 0."""
    pyarrow = arrow(path)
    wanted = (pyarrow.float64(), pyarrow.bool_())
    types = {name: wanted[pyarrow.types.is_boolean(found[name])] for name in features}
    dtype = np.dtype(np.float64)
    batches = partial(_batches, path, types)
    return TableSource(str(path), (n_rows, len(features)), dtype, features, (stamp,), batches)


def _opened(path: Path, types: dict[str, Any]) -> Any:
    """The parser at the first row, for columns of these types only; for all where none is named."""
    csv = arrow(path, "pyarrow.csv")
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=PARSE_BYTES),
        convert_options=csv.ConvertOptions(
            include_columns=list(types),
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _columns(path: Path) -> list[tuple[str, Any]]:
    """Names of the columns, with the types that the first block suggests."""
    try:
        with _opened(path, {}) as reader:
            return [(field.name, field.type) for field in reader.schema]
    except (arrow(path).ArrowException, UnicodeDecodeError) as error:
        raise not_a_table(path, error) from None
    except OSError as error:
        raise unreadable(path, error) from None


def not_a_table(path: Path, error: BaseException) -> DataError:
    """The error for a file that does not parse."""
    return DataError(f"{path} is not a .csv table with a header ({first_line(error)}).")


def _scan(path: Path, names: Sequence[str]) -> Any:
    """These columns, whole, as bytes: one pass that converts nothing else."""
    pyarrow = arrow(path)
    try:
        with _opened(path, dict.fromkeys(names, pyarrow.binary())) as reader:
            table = reader.read_all()
    except pyarrow.ArrowException as error:
        raise not_a_table(path, error) from None
    except OSError as error:
        raise unreadable(path, error) from None
    if table.num_rows == 0:
        raise DataError(f"{path} has a header but no rows.")
    return table


def _as_text(path: Path, column: Any, name: str) -> Any:
    pyarrow = arrow(path)
    try:
        return column.cast(pyarrow.string())
    except pyarrow.ArrowException:
        raise DataError(f"{path}, target {name!r} is not text in UTF-8: convert it.") from None


def _narrowed(path: Path, column: Any, name: str) -> Any:
    """Labels of the first type that holds them all, in the order in which Arrow infers types."""
    pyarrow, compute = arrow(path), arrow(path, "pyarrow.compute")
    text = _as_text(path, column, name)
    trimmed = compute.utf8_trim_whitespace(text)
    for kind in (pyarrow.int64(), pyarrow.bool_(), pyarrow.float64()):
        try:
            return trimmed.cast(kind)
        except pyarrow.ArrowException:
            continue
    return text


def _batches(path: Path, types: dict[str, Any]) -> Iterator[Batch]:
    """All rows, a block of the file at a time."""
    first = 0
    try:
        with _opened(path, types) as reader:
            for rows in reader:
                yield Batch(path, first, rows)
                first += rows.num_rows
    except arrow(path).ArrowException as error:
        _explain(path, types)
        raise unreadable(path, error, first + 1) from None
    except OSError as error:
        raise unreadable(path, error, first + 1) from None


def _explain(path: Path, types: dict[str, Any]) -> None:
    """Find the first cell that is no number: the parser names it by its place in a block only."""
    pyarrow = arrow(path)
    first = 0
    with (
        suppress(pyarrow.ArrowException),  # such as text in another encoding: the first error stays
        _opened(path, dict.fromkeys(types, pyarrow.string())) as reader,
    ):
        for rows in reader:
            for name in types:
                numbers(path, rows.column(name), name, first=first)
            first += rows.num_rows
