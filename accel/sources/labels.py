"""Labels and weights: one a row, from arrays and from .npy files beside the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from accel.disk import FileFormatError, read_arrays
from accel.sources.base import DataError, blocks, row_bytes
from accel.sources.npy import open_npy, read_header

Array = Any

# The sign-language digits as people have them: the column of the one-hot Y is not the digit.
SIGN_NAME = "sign-language digits"
SIGN_SHAPE = (2062, 64, 64)
SIGN_DIGIT_OF_COLUMN = np.array([9, 0, 7, 6, 1, 8, 4, 3, 2, 5])


def checked_labels(path: Path, y: Array, X_shape: tuple[int, ...]) -> dict[str, Any]:
    """One label a row; the columns of a one-hot target, or the digits they stand for.

    Parameters
    ----------
    path : Path
        Where they come from.
    y : ndarray (n_samples,), (n_samples, 1) or one-hot
        As they lie there.
    X_shape : tuple of int
        Of the rows, before images are flattened.

    Returns
    -------
    dict
        The labels as "y", and a "name" where they are those of known data.

    Raises
    ------
    DataError
        If they are neither one a row nor one-hot, or more or fewer than the rows.
    """
    return matched(path, one_a_row(path, y, y.shape), y.shape, X_shape)


def one_a_row(path: Path, y: Array, shape: tuple[int, ...]) -> Array:
    """Labels (n,) of a target, or of a block of rows of a target of this shape."""
    if len(shape) == 2 and shape[1] > 1:
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
            raise DataError(f"{path}: the target has shape {shape} and its rows are not one-hot.")
        return y.argmax(axis=1)
    if len(shape) != 1 and shape[1:] != (1,):
        raise DataError(f"{path}: the target has shape {shape}, one label a row is needed.")
    return y.reshape(-1)


def matched(
    path: Path, y: Array, shape: tuple[int, ...], X_shape: tuple[int, ...]
) -> dict[str, Any]:
    """Labels (n,) that came from a target of this shape, held against the rows."""
    if len(y) != X_shape[0]:
        raise DataError(f"{path}: X has {X_shape[0]} rows but the target has {len(y)}.")
    if X_shape == SIGN_SHAPE and shape[1:] == SIGN_DIGIT_OF_COLUMN.shape:
        return {"name": SIGN_NAME, "y": SIGN_DIGIT_OF_COLUMN[y]}
    return {"y": y}


def read_labels(path: Path) -> tuple[Array, tuple[int, ...]]:
    """The labels in a .npy file; a one-hot target is never whole in memory.

    Returns
    -------
    y : ndarray (n_samples,)
        Labels, or columns.
    shape : tuple of int
        Of the target in the file.
    """
    header = read_header(path)
    shape = header.shape
    if len(shape) != 2 or shape[1] == 1 or 0 in shape or header.is_fortran:
        y = read_array(path)
        return one_a_row(path, y, shape), shape
    source = open_npy(path, header)
    read, y = source.reader(), np.empty(shape[0], np.int64)
    for rows in blocks(0, shape[0], row_bytes(source)):
        block = np.empty((rows.stop - rows.start, shape[1]), source.dtype)
        read(rows, block)
        y[rows] = one_a_row(path, block, shape)
    return y, shape


def read_array(path: Path) -> Array:
    """The one array of a .npy file, whole.

    Raises
    ------
    DataError
        If it holds anything else.
    """
    content = read_content(path)
    if not isinstance(content, np.ndarray):
        raise DataError(f"{path} holds several arrays: name it .npz.")
    return content


def read_content(path: Path) -> Any:
    """What a NumPy file holds.

    Raises
    ------
    DataError
        If it is damaged or holds Python objects.
    """
    try:
        return read_arrays(path)
    except FileFormatError as error:
        raise DataError(f"{path} is not a NumPy file of plain arrays ({error}).") from None


def checked_weights(path: Path, weight: Array, n_rows: int) -> Array:
    """Weights as float64, one a row.

    Raises
    ------
    DataError
        If they are no numbers, or more or fewer than the rows.
    """
    if weight.dtype.kind not in "biuf":
        raise DataError(f"{path}: the weights are {weight.dtype} values, numbers are needed.")
    if weight.shape not in ((n_rows,), (n_rows, 1)):
        raise DataError(f"{path}: X has {n_rows} rows but the weights have shape {weight.shape}.")
    return weight.reshape(-1).astype(np.float64)


def beside(path: Path, letters: str, given: str | None, what: str) -> Path | None:
    """The .npy file beside the rows whose name is one of the letters, or the one that is given.

    Raises
    ------
    DataError
        If a file is given that does not exist.
    """
    if given:
        if not Path(given).exists():
            holds = "labels" if what == "target" else "weights"
            raise DataError(f"{given} does not exist: {what} must be a .npy file with the {holds}.")
        return Path(given)
    files = (path.with_name(f"{letter}.npy") for letter in letters)
    return next((file for file in files if file.exists()), None)
