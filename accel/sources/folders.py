"""Rows in .npy files, one or many, with labels and weights in files beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accel.sources.base import Data, DataError, Source, image_shape
from accel.sources.labels import beside, checked_weights, matched, read_array, read_labels
from accel.sources.npy import FileSource, open_npy
from accel.sources.parquet import parquet_data, parquet_rows
from accel.sources.shards import ShardedSource, naturally

Array = Any
Target = tuple[Array, tuple[int, ...]]  # labels, and the shape they had in the file


def npy_data(path: Path, target: str | None, weight: str | None) -> Data:
    """The rows of a .npy file, labels and weights from the files beside it.

    Parameters
    ----------
    path : Path
        The file with the rows.
    target : str or None
        The file with the labels; Y.npy or y.npy beside the rows where None.
    weight : str or None
        The file with the weights; W.npy or w.npy beside the rows where None.

    Returns
    -------
    Data
        Rows not read yet.

    Raises
    ------
    DataError
        If a file is missing or damaged, or they do not fit together.
    """
    return _file_data(path, path, target, weight)


def _file_data(path: Path, file: Path, target: str | None, weight: str | None) -> Data:
    """The rows of a file, under the name of what was asked for."""
    X = open_npy(file)
    return _data(path, X, _labels_beside(file, target), _weights_beside(file, weight))


def _data(
    path: Path, X: FileSource | ShardedSource, labels: Target | None, weights: Array | None
) -> Data:
    found: dict[str, Any] = {"y": None} if labels is None else matched(path, *labels, X.array_shape)
    return Data(
        X=X,
        y=found["y"],
        sample_weight=None if weights is None else checked_weights(path, weights, X.shape[0]),
        name=found.get("name", str(path)),
        image_shape=image_shape(X.array_shape),
    )


def _labels_beside(path: Path, target: str | None) -> Target | None:
    file = beside(path, "Yy", target, "target")
    return None if file is None else read_labels(file)


def _weights_beside(path: Path, weight: str | None) -> Array | None:
    file = beside(path, "Ww", weight, "weight")
    return None if file is None else read_array(file)


def folder_data(path: Path, target: str | None, weight: str | None) -> Data:
    """What a folder holds: X.npy, shards of it, or .parquet files.

    Parameters
    ----------
    path : Path
        The folder.
    target : str or None
        As for the files.
    weight : str or None
        As for the files.

    Returns
    -------
    Data
        Rows not read yet.

    Raises
    ------
    DataError
        If the folder holds none of them, or they do not fit together.
    """
    pattern, files = _content(path)
    return _FOLDER_DATA[pattern](path, files, target, weight)


def folder_rows(path: Path, columns: Sequence[str] | None = None) -> Source:
    """The rows in a folder, without labels.

    Parameters
    ----------
    path : Path
        The folder.
    columns : sequence of str, optional
        Columns of .parquet files.

    Returns
    -------
    Source
        Not read yet.
    """
    pattern, files = _content(path)
    return _FOLDER_ROWS[pattern](path, files, columns)


def _content(path: Path) -> tuple[str, list[Path]]:
    """The files of the first kind that a folder holds, in natural order."""
    for pattern in _FOLDER_ROWS:
        found = (file for file in path.glob(pattern) if not file.name.startswith((".", "_")))
        files = sorted(found, key=naturally)
        if files:
            return pattern, files
    raise DataError(
        f"{path} holds no X.npy, no X*.npy and no *.parquet: pass a folder with X.npy and Y.npy."
    )


def _shard_data(path: Path, files: list[Path], target: str | None, weight: str | None) -> Data:
    """Labels and weights in shards too, or in one file for all."""
    X = ShardedSource(str(path), files)
    labels = None if target else _joined_labels(_partners(files, "Yy"), X.lengths)
    weights = None if weight else _joined_weights(_partners(files, "Ww"), X.lengths)
    if labels is None:
        labels = _labels_beside(files[0], target)
    if weights is None:
        weights = _weights_beside(files[0], weight)
    return _data(path, X, labels, weights)


def _partners(files: list[Path], letters: str) -> list[Path]:
    """The file beside each shard with another letter for X, for all of them or for none.

    Raises
    ------
    DataError
        If one is missing, with its name.
    """
    found = [
        next((file for file in _renamed(shard, letters) if file.exists()), None) for shard in files
    ]
    if not any(found):
        return []
    for shard, file in zip(files, found, strict=True):
        if file is None:
            raise DataError(
                f"{next(_renamed(shard, letters))} does not exist: {shard.name} needs it, as the "
                "other shards have theirs."
            )
    return [file for file in found if file is not None]


def _renamed(shard: Path, letters: str) -> Iterator[Path]:
    return (shard.with_name(letter + shard.name[1:]) for letter in letters)


def _joined_labels(files: list[Path], lengths: list[int]) -> Target | None:
    """The labels of all shards, and the shape of a target that holds them together."""
    if not files:
        return None
    parts = [read_labels(file) for file in files]
    first = parts[0][1][1:]
    for file, (y, shape), n_rows in zip(files, parts, lengths, strict=True):
        if len(y) != n_rows:
            raise DataError(f"{file} holds {len(y)} labels but its shard of X {n_rows} rows.")
        if shape[1:] != first:
            raise DataError(
                f"{file} holds labels of shape {shape[1:]}, {files[0].name} of shape {first}: all "
                "shards must be alike."
            )
    y = np.concatenate([y for y, _ in parts])
    return y, (len(y), *first)


def _joined_weights(files: list[Path], lengths: list[int]) -> Array | None:
    if not files:
        return None
    pairs = zip(files, lengths, strict=True)
    return np.concatenate([checked_weights(file, read_array(file), n) for file, n in pairs])


# In the order in which they are looked for: beside X.npy, X_new.npy is no shard.
_FOLDER_ROWS: dict[str, Callable[[Path, list[Path], Sequence[str] | None], Source]] = {
    "X.npy": lambda _, files, __: open_npy(files[0]),
    "X*.npy": lambda path, files, _: ShardedSource(str(path), files),
    "*.parquet": parquet_rows,
}
_FOLDER_DATA: dict[str, Callable[[Path, list[Path], str | None, str | None], Data]] = {
    "X.npy": lambda path, files, target, weight: _file_data(path, files[0], target, weight),
    "X*.npy": _shard_data,
    "*.parquet": parquet_data,
}
