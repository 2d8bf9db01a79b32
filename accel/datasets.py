"""Real data into memory: .npy, .npz, .csv, .parquet, the sign digits, scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from accel.sources import Data, DataError, Source, open_data, open_rows, take
from accel.sources.labels import (
    SIGN_DIGIT_OF_COLUMN,
    SIGN_NAME,
    SIGN_SHAPE,
    checked_labels,
    checked_weights,
    read_content,
)

__all__ = [
    "SIGN_DIGIT_OF_COLUMN",
    "SIGN_NAME",
    "SIGN_SHAPE",
    "DataError",
    "Dataset",
    "load",
    "load_digits",
    "load_sign_digits",
    "rows",
    "two_digits",
    "whole",
]

Array = Any


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
    sample_weight : ndarray (n_samples,) or None
        Weights; None where the source has none.
    """

    name: str
    X: Array
    y: Array  # or None
    image_shape: tuple[int, int] | None = None
    feature_names: tuple[str, ...] | None = None
    sample_weight: Array = None  # or an array


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


def load(
    path: Path, target: str | None = None, weight: str | None = None, *, header: bool = True
) -> Dataset:
    """Rows and labels from a file or folder.

    Parameters
    ----------
    path : Path
        A folder with X.npy and Y.npy, with shards of them or with .parquet files, a .npy file
        (labels in Y.npy or y.npy beside it), an .npz file with X and y, a .parquet file, or a .csv
        file with a header.
    target : str, optional
        Where the labels are: a column of the table (the last one where not given), an array of the
        .npz file, or another .npy file.
    weight : str, optional
        Where the weights are, likewise; W.npy or w.npy beside X where not given, no column.
    header : bool, default=True
        Whether the first row of a .csv file holds the names of its columns.

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
    if _is_npz(path):
        return _npz(path, target, weight)
    return whole(open_data(path, target=target, weight=weight, header=header))


def rows(
    path: Path, columns: Sequence[str] | None = None, *, header: bool = True
) -> Array | Source:
    """Rows without labels from a file or folder: what a model is asked to label.

    Parameters
    ----------
    path : Path
        As for `load`; labels that may be there are not read.
    columns : sequence of str, optional
        Columns of a table by name, in this order; all where not given.
    header : bool, default=True
        As for `load`.

    Returns
    -------
    ndarray or Source (n_samples, n_features)
        An .npz file in memory; everything else on disk, to be read block by block.

    Raises
    ------
    DataError
        As `load`; of what is on disk, as it is read.
    """
    if _is_npz(path):
        return _checked_rows(str(path), _array(path, _arrays(path), "X", ""), None).X
    return open_rows(path, columns, header=header)


def whole(data: Data) -> Dataset:
    """Data on disk, read into memory and checked."""
    rows = _checked_rows(data.name, take(data.X, slice(None)), data.feature_names)
    return replace(rows, y=data.y, sample_weight=data.sample_weight, image_shape=data.image_shape)


def _npz(path: Path, target: str | None, weight: str | None) -> Dataset:
    """An .npz file with arrays X and y, and w where rows have weights."""
    arrays = _arrays(path)
    wanted = (("X", ""), (target, "yY"), (weight, "wW"))
    X, y, w = (_array(path, arrays, name, letters) for name, letters in wanted)
    data = _checked_rows(str(path), X, None)
    if w is not None:
        data = replace(data, sample_weight=checked_weights(path, w, len(data.X)))
    return data if y is None else replace(data, **checked_labels(path, y, X.shape))


def _array(path: Path, arrays: dict[str, Array], name: str | None, letters: str) -> Array:
    """The array of this name, or else of one of these letters; None where there is none."""
    key = name or next((letter for letter in letters if letter in arrays), None)
    if key is not None and key not in arrays:
        raise DataError(f"{path} holds no array {key!r}, it holds {', '.join(arrays)}.")
    if key is None:
        return None
    if not isinstance(arrays[key], np.ndarray):  # a file that was zipped in, but is no .npy
        raise DataError(f"{path}: its member {key!r} is no array, write the file with np.savez.")
    return arrays[key]


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz" and path.is_file()


def _arrays(path: Path) -> dict[str, Array]:
    content = read_content(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a single array: name it .npy.")
    return content


def _checked_rows(name: str, X: Array, names: tuple[str, ...] | None) -> Dataset:
    """Numbers, finite, one row a sample."""
    if X.dtype.kind not in "biuf":
        raise DataError(f"{name}: X holds {X.dtype} values, numbers are needed.")
    if X.ndim < 2 or 0 in X.shape:
        raise DataError(f"{name}: X has shape {X.shape}, (n_samples, n_features) is needed.")
    image_shape = X.shape[1:] if X.ndim == 3 else None
    X = X.reshape(len(X), -1)
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        where = f"row {row + 1} of column {names[column]!r}" if names else f"X[{row}, {column}]"
        raise DataError(f"{name}: {where} is {X[row, column]}: remove or impute such rows first.")
    return Dataset(name, X, None, image_shape, names)
