"""What a fit on a cluster takes as X: dask collections, and files that all workers see."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.sources import DataError, Source, as_source, open_data
from accel.sources.ranges import RowRange


@dataclass(frozen=True)
class Spread:
    """A source whose rows the workers of a cluster read themselves, each its own range.

    Parameters
    ----------
    source : Source
        At a path that is the same for every worker.
    y : array-like (n_samples,)
        Labels, on the client.
    sample_weight : array-like (n_samples,) or None
        Weights, on the client.
    """

    source: Source
    y: Any
    sample_weight: Any


def spread(path: str | Path | Source, y: Any = None, sample_weight: Any = None) -> Spread:
    """Rows on a disk that all workers see, as the X of a fit on their cluster.

    ``with Client(address): model.fit(spread(path), None)``.

    Parameters
    ----------
    path : str, Path or Source
        A .npy file, a folder of X.npy or of shards, or what `accel.open_data` gave as X.
    y, sample_weight : array-like (n_samples,), optional
        Labels and weights; those beside the file where not given.

    Returns
    -------
    Spread
        Nothing of the rows is read yet.

    Raises
    ------
    DataError
        If it cannot be opened, there or here, or is read in order only (.csv, .parquet: use
        dask.dataframe).
    ValueError
        If it is in memory.
    """
    source = path
    if isinstance(path, str | Path):
        data = open_data(Path(path).resolve())  # workers may run in other folders
        source = data.X
        y = data.y if y is None else y
        sample_weight = data.sample_weight if sample_weight is None else sample_weight
    found = as_source(source)
    if found is None:
        raise ValueError("spread needs a path or a source: pass an array in memory to fit itself.")
    RowRange(found, 0, found.shape[0])  # says so where it cannot be cut
    try:
        pickle.dumps(found)
    except Exception:
        raise DataError(
            f"{found.name} cannot be opened by other processes: save it as .npy, or pass a dask "
            "array of it (dask.array.from_array, from_zarr)."
        ) from None
    return Spread(found, y, sample_weight)


def frame(source: Any) -> Any:
    """A table that is read in order, as a dask data frame of the same rows and columns.

    Parameters
    ----------
    source : TableSource
        Parquet or CSV files at paths that are the same for every worker.

    Returns
    -------
    dask.dataframe.DataFrame
        Its features; partitions follow the files and their row groups.
    """
    import dask.dataframe as dd

    read = {".parquet": dd.read_parquet, ".csv": dd.read_csv}[source.stamps[0].path.suffix.lower()]
    paths = [str(stamp.path) for stamp in source.stamps]
    return read(paths)[list(source.feature_names)]


def is_dask(X: Any) -> bool:
    """Whether it is a dask collection."""
    return hasattr(X, "__dask_graph__")
