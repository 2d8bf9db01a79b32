"""Predictions for dask collections: one task a block, nothing computed until it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from accel.cluster.distributed import task
from accel.cluster.inputs import is_dask

Array = Any


def by_partitions(predict: Callable[[Any, Any], Array]) -> Callable[[Any, Any], Array]:
    """A method of (self, X) that gives a dask array where X is a dask collection.

    Parameters
    ----------
    predict : callable
        (self, X) -> array (n_samples, ...), for X that is an array or data frame.

    Returns
    -------
    callable
        The same, and lazily, block by block of rows, for dask collections.
    """

    @wraps(predict)
    def lazily(self: Any, X: Any) -> Array:
        return _lazily(predict, self, X) if is_dask(X) else predict(self, X)

    return lazily


def _lazily(predict: Callable[[Any, Any], Array], model: Any, X: Any) -> Any:
    """A dask array of predict(model, block) of the blocks of rows of X."""
    import dask.array as da

    is_frame = hasattr(X, "columns")
    if is_frame:
        n_rows, blocks = [np.nan] * X.npartitions, X.to_delayed()
        like = X._meta.reindex([0], fill_value=0)
    else:
        X = X.rechunk({1: -1})
        n_rows, blocks = X.chunks[0], X.to_delayed().ravel()
        like = np.zeros((1, X.shape[1]), np.dtype(str(X.dtype)))
    one = predict(model, like)  # its dtype and width are those of every block
    of_block = task(_of_block)
    parts = [
        da.from_delayed(of_block(predict, model, block, one), (n, *one.shape[1:]), one.dtype)
        for n, block in zip(n_rows, blocks, strict=True)
    ]
    return da.concatenate(parts)


def _of_block(predict: Callable[[Any, Any], Array], model: Any, block: Any, one: Array) -> Array:
    """On a worker: the predictions for a block, which may be empty."""
    return predict(model, block) if len(block) else one[:0]


def computed(*values: Any) -> tuple[Any, ...]:
    """The values, dask collections among them computed together and brought here."""
    if not any(is_dask(value) for value in values):
        return values
    from dask import compute

    found: tuple[Any, ...] = compute(*values)
    return found
