"""Real data in: .npy pairs, .npz, .csv, the sign-language digits, scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accel.files import FileFormatError, read_arrays

Array = Any

# The sign-language digits as people have them: the column of the one-hot Y is not the digit.
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
    if data.image_shape != SIGN_SHAPE[1:] or len(data.X) != SIGN_SHAPE[0]:
        raise DataError(
            f"{folder} does not hold the sign-language digits: X.npy must have shape {SIGN_SHAPE}."
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


def load(path: Path, target: str | None = None, *, columns: Sequence[str] | None = None) -> Dataset:
    """Rows and labels from a file or folder.

    Parameters
    ----------
    path : Path
        A folder with X.npy and Y.npy, a .npy file (labels in Y.npy or y.npy beside it), an .npz
        file with X and y, or a .csv file with a header.
    target : str, optional
        Where the labels are: a column of the .csv file (the last one where not given), an array
        of the .npz file, or another .npy file.
    columns : sequence of str, optional
        Read just these columns of a .csv file, in this order, and no labels.

    Returns
    -------
    Dataset
        Images are flattened to rows, one-hot labels become column numbers.

    Raises
    ------
    DataError
        If the data is missing, damaged, not numbers, not finite, or does not fit together.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: pass a folder, .npy, .npz or .csv file.")
    suffix = "folder" if path.is_dir() else path.suffix.lower()
    if suffix not in READERS:
        raise DataError(f"{path}: pass a folder with X.npy and Y.npy, a .npy, .npz or .csv file.")
    X, y, names = READERS[suffix](path, target, columns)
    return _checked(path, X, y, names)


def _read_folder(path: Path, target: str | None, columns: Sequence[str] | None) -> Any:
    if not (path / "X.npy").exists():
        raise DataError(f"{path} holds no X.npy: pass a folder with X.npy and Y.npy.")
    return _read_npy(path / "X.npy", target, columns)


def _read_npy(path: Path, target: str | None, columns: Sequence[str] | None) -> Any:  # noqa: ARG001
    beside = [path.with_name(name) for name in ("Y.npy", "y.npy")]
    labels = Path(target) if target else next((file for file in beside if file.exists()), None)
    if target and labels is not None and not labels.exists():
        raise DataError(f"{labels} does not exist: target must be a .npy file with the labels.")
    return _array(path), None if labels is None else _array(labels), None


def _read_npz(path: Path, target: str | None, columns: Sequence[str] | None) -> Any:  # noqa: ARG001
    arrays = _array(path)
    key = target or next((name for name in ("y", "Y") if name in arrays), None)
    if "X" not in arrays or (target and target not in arrays):
        wanted = "X" if "X" not in arrays else target
        raise DataError(f"{path} holds no array {wanted!r}, it holds {', '.join(arrays)}.")
    return arrays["X"], arrays[key] if key else None, None


def _array(path: Path) -> Any:
    """An array, or a dict of arrays."""
    try:
        return read_arrays(path)
    except FileFormatError as error:
        raise DataError(f"{path} is not a NumPy file of plain arrays ({error}).") from None


def _read_csv(path: Path, target: str | None, columns: Sequence[str] | None) -> Any:
    import pyarrow
    from pyarrow import csv

    try:
        options = csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
        table = csv.read_csv(path, convert_options=options)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError) as error:
        raise DataError(f"{path} is not a .csv table with a header ({_line(error)}).") from None
    names = list(columns) if columns is not None else table.column_names
    y = None
    if columns is None:
        target = target or names[-1]
        if target not in names:
            raise DataError(f"{path} has no column {target!r} for target: {', '.join(names)}.")
        names = [name for name in names if name != target]
        y = _labels(path, table[target], target)
    missing = [name for name in names if name not in table.column_names]
    if missing or not names:
        what = f"no column {missing[0]!r}" if missing else "no column beside the target"
        raise DataError(f"{path} has {what}: the model needs its features by name.")
    X = np.column_stack([_numbers(path, table[name], name) for name in names])
    return X, y, tuple(names)


def _numbers(path: Path, column: Any, name: str) -> Array:
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_null(column.type) or column.null_count:
        row = int(compute.index(compute.is_null(column), True).as_py())
        raise DataError(f"{path}, column {name!r}: row {row + 1} is empty, put a number there.")
    if pyarrow.types.is_string(column.type):
        example = next(text for text in column.to_pylist() if not _is_number(text))
        raise DataError(
            f"{path}, column {name!r} holds the text {example!r}: features must be numbers."
        )
    try:
        return column.cast(pyarrow.float64()).to_numpy()
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        raise DataError(
            f"{path}, column {name!r} holds {column.type} values: features must be numbers."
        ) from None


def _labels(path: Path, column: Any, name: str) -> Array:
    if column.null_count:
        raise DataError(f"{path}, target {name!r} has {column.null_count} empty rows: fill them.")
    y = column.to_numpy()
    return y.astype(str) if y.dtype == object else y


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _checked(path: Path, X: Array, y: Any, names: tuple[str, ...] | None) -> Dataset:
    """Shapes that fit together, numbers that are finite."""
    if X.dtype.kind not in "biuf":
        raise DataError(f"{path}: X holds {X.dtype} values, numbers are needed.")
    if X.ndim < 2 or 0 in X.shape:
        raise DataError(f"{path}: X has shape {X.shape}, (n_samples, n_features) is needed.")
    image_shape = X.shape[1:] if X.ndim == 3 else None
    X = X.reshape(len(X), -1)
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        where = repr(names[column]) if names else column
        raise DataError(
            f"{path}: X holds {X[row, column]} at row {row}, column {where}: "
            "remove or impute such rows first."
        )
    if y is not None:
        y = _from_one_hot(path, y)
        if len(y) != len(X):
            raise DataError(f"{path}: X has {len(X)} rows but the target has {len(y)}.")
        if image_shape is not None and (len(X), *image_shape) == SIGN_SHAPE:
            return Dataset("sign-language digits", X, SIGN_DIGIT_OF_COLUMN[y], image_shape)
    return Dataset(str(path), X, y, image_shape, names)


def _from_one_hot(path: Path, y: Array) -> Array:
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim == 2:
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
            raise DataError(f"{path}: the target has shape {y.shape} and its rows are not one-hot.")
        return y.argmax(axis=1)
    if y.ndim != 1:
        raise DataError(f"{path}: the target has shape {y.shape}, one label a row is needed.")
    return y


def _line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


READERS: dict[str, Callable[[Path, str | None, Sequence[str] | None], Any]] = {
    "folder": _read_folder,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
}
