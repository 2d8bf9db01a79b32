"""Real data in: .npy pairs, .npz, .csv, the sign-language digits, scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from accel.backends.base import first_line
from accel.disk import FileFormatError, read_arrays

Array = Any

# The sign-language digits as people have them: the column of the one-hot Y is not the digit.
SIGN_NAME = "sign-language digits"
SIGN_SHAPE = (2062, 64, 64)
SIGN_DIGIT_OF_COLUMN = np.array([9, 0, 7, 6, 1, 8, 4, 3, 2, 5])


class DataError(ValueError):
    """Data that cannot be used: the message names the file and what to do."""


@dataclass(frozen=True)
class Dataset:
    """Rows and labels.

    Parameters
    ----------
    name : str
        What it is, for people.
    X : ndarray (n_samples, n_features)
        Rows, finite numbers.
    y : ndarray (n_samples,) or None
        Labels; None where the source has none.
    image_shape : tuple of int or None
        Height and width, where the rows are images.
    feature_names : tuple of str or None
        Names of the columns, where the source has them.
    """

    name: str
    X: Array
    y: Array  # or None
    image_shape: tuple[int, int] | None = None
    feature_names: tuple[str, ...] | None = None


def load_digits() -> Dataset:
    """The 8 x 8 digits that come with scikit-learn, pixels 0 to 1, all ten classes."""
    from sklearn.datasets import load_digits as load

    digits = load()
    return Dataset("scikit-learn's 8 x 8 digits", digits.data / 16, digits.target, (8, 8))


def load_sign_digits(folder: Path) -> Dataset:
    """The sign-language digits from a folder with X.npy and Y.npy; y is the digit shown.

    Parameters
    ----------
    folder : Path
        Holds X.npy (2062, 64, 64) and Y.npy (2062, 10).

    Returns
    -------
    Dataset
        In the order of the files.
    """
    data = load(folder)
    if data.name != SIGN_NAME:
        raise DataError(
            f"{folder} does not hold the sign-language digits: X.npy must have shape {SIGN_SHAPE} "
            "and Y.npy be one-hot with ten columns."
        )
    return data


def two_digits(data: Dataset, digits: tuple[int, int]) -> Dataset:
    """As many rows of the first digit as of the second, labelled 0 and 1, in the lesson's order."""
    rows = [np.flatnonzero(data.y == digit) for digit in digits]
    n_each = min(len(found) for found in rows)
    if n_each == 0 or digits[0] == digits[1]:
        raise DataError(f"digits {digits[0]} {digits[1]}: choose two different digits from 0 to 9.")
    chosen = np.concatenate([found[:n_each] for found in rows])
    y = np.repeat([0, 1], n_each)
    return Dataset(f"{data.name}, {digits[0]} and {digits[1]}", data.X[chosen], y, data.image_shape)


def load(path: Path, target: str | None = None) -> Dataset:
    """Rows and labels from a file or folder.

    Parameters
    ----------
    path : Path
        A folder with X.npy and Y.npy, a .npy file (labels in Y.npy or y.npy beside it), an .npz
        file with X and y, or a .csv file with a header.
    target : str, optional
        Where the labels are: a column of the .csv file (the last one where not given), an array
        of the .npz file, or another .npy file.

    Returns
    -------
    Dataset
        Images are flattened to rows, one-hot labels become column numbers; of the sign-language
        digits, the digits shown.

    Raises
    ------
    DataError
        If the data is missing, damaged, not numbers, not finite, or does not fit together.
    """
    X, y, names = _reader(path).rows_and_labels(path, target)
    data = _checked_rows(path, X, names)
    return data if y is None else replace(data, **_checked_labels(path, y, X.shape))


def load_rows(path: Path, columns: Sequence[str] | None = None) -> Dataset:
    """Rows without labels from a file or folder: what a model is asked to label.

    Parameters
    ----------
    path : Path
        As for `load`; labels that may be there are not read.
    columns : sequence of str, optional
        Columns of a .csv file by name, in this order; all where not given.

    Returns
    -------
    Dataset
        With y None.

    Raises
    ------
    DataError
        As `load`.
    """
    X, names = _reader(path).rows(path, columns)
    return _checked_rows(path, X, names)


class _Npy:
    """A .npy file, its labels in another."""

    def rows(self, path: Path, columns: Sequence[str] | None) -> Any:  # noqa: ARG002
        """X, and no names."""
        return _one_array(path), None

    def rows_and_labels(self, path: Path, target: str | None) -> Any:
        """X, y or None, and no names."""
        beside = [path.with_name(name) for name in ("Y.npy", "y.npy")]
        labels = Path(target) if target else next((file for file in beside if file.exists()), None)
        if target and labels is not None and not labels.exists():
            raise DataError(f"{labels} does not exist: target must be a .npy file with the labels.")
        return _one_array(path), None if labels is None else _one_array(labels), None


class _Folder(_Npy):
    """A folder with X.npy and Y.npy."""

    def rows(self, path: Path, columns: Sequence[str] | None) -> Any:
        """X, and no names."""
        return super().rows(self._file(path), columns)

    def rows_and_labels(self, path: Path, target: str | None) -> Any:
        """X, y or None, and no names."""
        return super().rows_and_labels(self._file(path), target)

    @staticmethod
    def _file(path: Path) -> Path:
        if not (path / "X.npy").exists():
            raise DataError(f"{path} holds no X.npy: pass a folder with X.npy and Y.npy.")
        return path / "X.npy"


class _Npz:
    """An .npz file with arrays X and y."""

    def rows(self, path: Path, columns: Sequence[str] | None) -> Any:  # noqa: ARG002
        """X, and no names."""
        return self._get(path, _arrays(path), "X"), None

    def rows_and_labels(self, path: Path, target: str | None) -> Any:
        """X, y or None, and no names."""
        arrays = _arrays(path)
        key = target or next((name for name in ("y", "Y") if name in arrays), None)
        X = self._get(path, arrays, "X")
        return X, self._get(path, arrays, key) if key else None, None

    @staticmethod
    def _get(path: Path, arrays: dict[str, Array], key: str) -> Any:
        if key not in arrays:
            raise DataError(f"{path} holds no array {key!r}, it holds {', '.join(arrays)}.")
        return arrays[key]


class _Csv:
    """A .csv file with a header, read by column."""

    def rows(self, path: Path, columns: Sequence[str] | None) -> Any:
        """X and the names of its columns."""
        table = _table(path)
        names = table.column_names if columns is None else list(columns)
        missing = [name for name in names if name not in table.column_names]
        if missing:
            raise DataError(f"{path} has no column {missing[0]!r}: the model needs it by name.")
        return np.column_stack([_numbers(path, table[name], name) for name in names]), tuple(names)

    def rows_and_labels(self, path: Path, target: str | None) -> Any:
        """X, y and the names of X's columns."""
        table = _table(path)
        target = target or table.column_names[-1]
        if target not in table.column_names:
            raise DataError(
                f"{path} has no column {target!r} for target: {', '.join(table.column_names)}."
            )
        names = [name for name in table.column_names if name != target]
        if not names:
            hint = ", separate columns by commas" if ";" in target else ""
            raise DataError(f"{path} has no column beside the target {target!r}{hint}.")
        X = np.column_stack([_numbers(path, table[name], name) for name in names])
        return X, _labels(path, table[target], target), tuple(names)


READERS: dict[str, Any] = {"folder": _Folder(), ".npy": _Npy(), ".npz": _Npz(), ".csv": _Csv()}


def _reader(path: Path) -> Any:
    if not path.exists():
        raise DataError(f"{path} does not exist: pass a folder, .npy, .npz or .csv file.")
    kind = "folder" if path.is_dir() else path.suffix.lower()
    if kind not in READERS:
        raise DataError(f"{path}: pass a folder with X.npy and Y.npy, a .npy, .npz or .csv file.")
    return READERS[kind]


def _content(path: Path) -> Any:
    try:
        return read_arrays(path)
    except FileFormatError as error:
        raise DataError(f"{path} is not a NumPy file of plain arrays ({error}).") from None


def _one_array(path: Path) -> Array:
    content = _content(path)
    if not isinstance(content, np.ndarray):
        raise DataError(f"{path} holds several arrays: name it .npz.")
    return content


def _arrays(path: Path) -> dict[str, Array]:
    content = _content(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a single array: name it .npy.")
    return content


def _table(path: Path) -> Any:
    import pyarrow
    from pyarrow import csv

    options = csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
    try:
        table = csv.read_csv(path, convert_options=options)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not a .csv table with a header ({first_line(error)})."
        ) from None
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise DataError(f"{path} has two columns named {twice[0]!r}: rename one.")
    if table.num_rows == 0:
        raise DataError(f"{path} has a header but no rows.")
    return table


def _numbers(path: Path, column: Any, name: str) -> Array:
    """A column as float64; rows are counted from 1, below the header."""
    import pyarrow
    from pyarrow import compute

    where = f"{path}, column {name!r}"
    if column.null_count:
        row = int(compute.index(compute.is_null(column), True).as_py()) + 1
        raise DataError(f"{where}: row {row} is empty, put a number there.")
    if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        row, text = next(pair for pair in enumerate(column.to_pylist(), 1) if _is_text(pair[1]))
        raise DataError(f"{where} holds the text {text!r} in row {row}: features must be numbers.")
    try:
        return column.cast(pyarrow.float64(), safe=False).to_numpy()
    except pyarrow.ArrowException:
        raise DataError(f"{where} holds {column.type} values: features must be numbers.") from None


def _is_text(text: str) -> bool:
    """Whether Arrow does not read it as a number."""
    import pyarrow

    try:
        pyarrow.scalar(text).cast(pyarrow.float64())
    except pyarrow.ArrowException:
        return True
    return False


def _labels(path: Path, column: Any, name: str) -> Array:
    if column.null_count:
        raise DataError(f"{path}, target {name!r} has {column.null_count} empty rows: fill them.")
    y = column.to_numpy()
    try:
        return y.astype(str) if y.dtype == object else y
    except UnicodeDecodeError:
        raise DataError(f"{path}, target {name!r} is not text in UTF-8: convert it.") from None


def _checked_rows(path: Path, X: Array, names: tuple[str, ...] | None) -> Dataset:
    """Numbers, finite, one row a sample."""
    if X.dtype.kind not in "biuf":
        raise DataError(f"{path}: X holds {X.dtype} values, numbers are needed.")
    if X.ndim < 2 or 0 in X.shape:
        raise DataError(f"{path}: X has shape {X.shape}, (n_samples, n_features) is needed.")
    image_shape = X.shape[1:] if X.ndim == 3 else None
    X = X.reshape(len(X), -1)
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        where = f"row {row + 1} of column {names[column]!r}" if names else f"X[{row}, {column}]"
        raise DataError(f"{path}: {where} is {X[row, column]}: remove or impute such rows first.")
    return Dataset(str(path), X, None, image_shape, names)


def _checked_labels(path: Path, y: Array, X_shape: tuple[int, ...]) -> dict[str, Any]:
    """One label a row; the columns of a one-hot target, or the digits they stand for."""
    is_one_hot = y.ndim == 2 and y.shape[1] > 1
    if is_one_hot:
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
            raise DataError(f"{path}: the target has shape {y.shape} and its rows are not one-hot.")
    elif y.ndim != 1 and y.shape[1:] != (1,):
        raise DataError(f"{path}: the target has shape {y.shape}, one label a row is needed.")
    if len(y) != X_shape[0]:
        raise DataError(f"{path}: X has {X_shape[0]} rows but the target has {len(y)}.")
    labels = y.argmax(axis=1) if is_one_hot else y.reshape(-1)
    if is_one_hot and X_shape == SIGN_SHAPE and y.shape[1] == len(SIGN_DIGIT_OF_COLUMN):
        return {"name": SIGN_NAME, "y": SIGN_DIGIT_OF_COLUMN[labels]}
    return {"y": labels}
