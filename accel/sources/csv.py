"""Rows of a .csv file with a header, parsed block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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


def csv_rows(
    path: Path, columns: Sequence[str] | None = None, *, header: bool = True
) -> TableSource:
    """Rows without labels: all columns, or those that are named, in that order.

    Parameters
    ----------
    path : Path
        The file.
    columns : sequence of str, optional
        Columns of X.
    header : bool, default=True
        Whether the first row holds the names of the columns; else they are f0, f1 and so on.

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
    head = _head(path, header)
    features = named_columns(path, head.names, columns)
    return _source(path, stamp, head, features, _scan(path, head, features[:1]).num_rows)


def csv_data(path: Path, target: str | None, weight: str | None, *, header: bool = True) -> Data:
    """Rows, with the labels and weights read from their columns, whole.

    Parameters
    ----------
    path : Path
        The file.
    target : str or None
        The column of the labels; the last one where None.
    weight : str or None
        The column of the weights.
    header : bool, default=True
        As in `csv_rows`.

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
    head = _head(path, header)
    features, target = split_columns(path, head.names, target, weight)
    table = _scan(path, head, [target, weight] if weight else [target])
    X = _source(path, stamp, head, features, table.num_rows)
    y = labels(path, _narrowed(path, table[target], target), target)
    sample_weight = numbers(path, _as_text(path, table[weight], weight), weight) if weight else None
    return Data(X, y, sample_weight, str(path), features)


def _source(
    path: Path, stamp: Stamp, head: _Head, features: tuple[str, ...], n_rows: int
) -> TableSource:
    """Features as float64; true and false, as they are in the first block, as 1 and 0."""
    pyarrow = arrow(path)
    wanted = (pyarrow.float64(), pyarrow.bool_())
    types = {name: wanted[pyarrow.types.is_boolean(head.types[name])] for name in features}
    dtype = np.dtype(np.float64)
    batches = partial(_batches, path, head, types)
    return TableSource(str(path), (n_rows, len(features)), dtype, features, (stamp,), batches)


class _Head(NamedTuple):
    """What stands above the rows: names without blanks around them, and types by the first block.

    `skipped` rows of the file hold the names.
    """

    names: tuple[str, ...]
    types: dict[str, Any]
    skipped: int


def _opened(path: Path, head: _Head | None, types: dict[str, Any], header: bool = True) -> Any:
    """The parser at the first row, for columns of these types only; for all where none is named."""
    csv = arrow(path, "pyarrow.csv")
    options: dict[str, Any] = {"autogenerate_column_names": not header}
    if head is not None:
        options = {"column_names": list(head.names), "skip_rows": head.skipped}
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=PARSE_BYTES, **options),
        convert_options=csv.ConvertOptions(
            include_columns=list(types),
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _head(path: Path, header: bool) -> _Head:
    """Names of the columns, with the types that the first block suggests."""
    try:
        with _opened(path, None, {}, header) as reader:
            fields = [(field.name.strip(), field.type) for field in reader.schema]
    except (arrow(path).ArrowException, UnicodeDecodeError) as error:
        raise not_a_table(path, error) from None
    except OSError as error:
        raise unreadable(path, error) from None
    names = tuple(name for name, _ in fields)
    if header and all(_is_number(name) for name in names):
        raise DataError(
            f"{path}: its first row holds numbers only, not the names of columns: put a row of "
            "names above it, or say --no-header (header=False)."
        )
    return _Head(names, dict(fields), int(header))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def not_a_table(path: Path, error: BaseException) -> DataError:
    """The error for a file that does not parse."""
    if "cannot infer number of columns" in str(error) and path.stat().st_size > PARSE_BYTES:
        return DataError(f"{path}: its first row is longer than {PARSE_BYTES >> 20} MiB.")
    return DataError(f"{path} is not a .csv table with a header ({first_line(error)}).")


def _scan(path: Path, head: _Head, names: Sequence[str]) -> Any:
    """These columns, whole, as bytes: one pass that converts nothing else."""
    pyarrow = arrow(path)
    try:
        with _opened(path, head, dict.fromkeys(names, pyarrow.binary())) as reader:
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
    """Labels as they are spelt, less blanks around them; numbers where that loses no digit.

    A type is safe where every value, written again, is the text of the file: 01 is not 1, 1E3 is
    not 1000, true is a word, and a number of 20 digits is a name.
    """
    pyarrow, compute = arrow(path), arrow(path, "pyarrow.compute")
    trimmed = compute.utf8_trim_whitespace(_as_text(path, column, name))
    if compute.any(compute.match_substring(trimmed, "\n")).as_py():
        raise DataError(
            f"{path}, target {name!r}: a label goes over several lines, a quotation mark before it "
            "is not closed."
        )
    for kind in (pyarrow.int64(), pyarrow.float64()):
        try:
            found = trimmed.cast(kind)
        except pyarrow.ArrowException:
            continue
        written = [str(value) for value in compute.unique(found.drop_null()).to_pylist()]
        if set(written) == set(compute.unique(trimmed.drop_null()).to_pylist()):
            return found
    return trimmed


def _batches(path: Path, head: _Head, types: dict[str, Any]) -> Iterator[Batch]:
    """All rows, a block of the file at a time."""
    first = 0
    try:
        with _opened(path, head, types) as reader:
            for rows in reader:
                yield Batch(path, first, rows)
                first += rows.num_rows
    except arrow(path).ArrowException as error:
        _explain(path, head, types)
        raise unreadable(path, error, first + 1) from None
    except OSError as error:
        raise unreadable(path, error, first + 1) from None


def _explain(path: Path, head: _Head, types: dict[str, Any]) -> None:
    """Find the first cell that is no number: the parser names it by its place in a block only."""
    pyarrow = arrow(path)
    first = 0
    with (
        suppress(pyarrow.ArrowException),  # such as text in another encoding: the first error stays
        _opened(path, head, dict.fromkeys(types, pyarrow.string())) as reader,
    ):
        for rows in reader:
            for name in types:
                numbers(path, rows.column(name), name, first=first)
            first += rows.num_rows
