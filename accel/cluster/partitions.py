"""From dask collections, or files on a shared disk, to parts: rows with labels, aligned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from accel.backends.base import row_blocks
from accel.backends.interchange import (
    aligned,
    bytes_of,
    is_device_array,
    is_sparse,
    namespace,
    to_host,
)
from accel.cluster.distributed import answers, let_go, task
from accel.cluster.inputs import Spread, is_dask
from accel.rows import check_finite, runs_of
from accel.sources import gather, is_source
from accel.sources.base import delivered_dtype
from accel.sources.ranges import RowRange

Array = Any
# A task costs the scheduler about a millisecond a pass: more parts than this are merged, neighbours
# with neighbours, until each has this size. Not by the number of workers: the sums, and so the bits
# of a fit, depend on the cut.
FEW_PARTS = 64
PART_BYTES = 16 << 20
RANGE_BYTES = 64 << 20  # of a source, where nobody has cut it yet
FINITE_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class Rows:
    """Rows with their labels and weights, on a worker.

    Parameters
    ----------
    X : array or RowRange (n_rows, n_features)
        In the dtype in which they are stored, row by row.
    y : array (n_rows,)
        Labels as they came, on the host.
    weight : ndarray (n_rows,) or None
        As they came, on the host.
    """

    X: Any
    y: Any
    weight: Any

    def __sizeof__(self) -> int:
        """What it holds: dask moves and spills by it."""
        held = 0 if is_source(self.X) else bytes_of(self.X)
        return held + sum(bytes_of(part) for part in (self.y, self.weight) if part is not None)

    def take(self, runs: Sequence[slice]) -> Rows:
        """Runs of them, on the host."""
        if is_source(self.X):
            X = gather(self.X, list(runs))
        else:
            X = np.concatenate([to_host(self.X[run, :]) for run in runs])
        y, weight = self.y, self.weight
        return Rows(
            X,
            np.concatenate([y[run] for run in runs]),
            None if weight is None else np.concatenate([weight[run] for run in runs]),
        )

    def of_labels(self, labels: Any, most: int) -> Rows | None:
        """The first rows with each of these labels, at most so many, on the host; None for none."""
        found = [np.flatnonzero(self.y == label)[:most] for label in labels]
        places = np.sort(np.concatenate(found))
        return self.take(runs_of(places)) if len(places) else None


@dataclass(frozen=True)
class Partitions:
    """The rows of X on the workers.

    Parameters
    ----------
    rows : list of Delayed
        Persisted `Rows`, in order, none empty.
    edges : list of int
        Place in X of the first row of each, and the number of rows of X.
    n_features : int
        Columns.
    dtype : dtype
        In which X is stored.
    feature_names : sequence or None
        Names of the columns, where X is a data frame.
    identity : callable
        () -> what the data is, for a checkpoint.
    """

    rows: list[Any]
    edges: list[int]
    n_features: int
    dtype: np.dtype[Any]
    feature_names: Any
    identity: Callable[[], str]

    def runs_of(self, runs: Sequence[slice]) -> list[tuple[Any, list[slice]]]:
        """Runs of rows of X as runs of the parts that hold them; parts without are left out."""
        found = []
        for rows, start, stop in zip(self.rows, self.edges, self.edges[1:], strict=False):
            inside = [
                slice(max(run.start, start) - start, min(run.stop, stop) - start)
                for run in runs
                if run.start < stop and run.stop > start
            ]
            if inside:
                found.append((rows, inside))
        return found


def cut(client: Any, X: Any, y: Any, sample_weight: Any) -> Partitions:
    """Start to bring rows, labels and weights together on the workers.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    X : dask array or data frame, or Spread (n_samples, n_features)
        Column chunks are joined; row chunks are the parts, unless they are many and small.
    y, sample_weight : dask array or series, or array-like (n_samples,)
        Cut as X is. What is on the client goes into the graph, so that a worker that dies takes
        nothing with it that cannot be had again. sample_weight may be None.

    Returns
    -------
    Partitions
        Being computed.

    Raises
    ------
    ValueError
        If the lengths do not agree or X holds no numbers.
    """
    if isinstance(X, Spread):
        y, sample_weight = X.y if y is None else y, _or(sample_weight, X.sample_weight)
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    held: list[Any] = []  # until the parts are made of them, whose lineage they are
    try:
        blocks, lengths, names, n_features, dtype = _blocks_of_X(client, X, held)
        groups = grouped(lengths, n_features * dtype.itemsize)
        edges = [0, *accumulate(sum(lengths[k] for k in group) for group in groups)]
        labels = _aligned(client, y, edges, "y has {} labels", held)
        weights = _aligned(client, sample_weight, edges, "sample_weight has {} numbers", held)
        join = task(_join)
        rows = [
            join([blocks[k] for k in group], labels[i], weights[i], dtype, edges[i], i)
            for i, group in enumerate(groups)
        ]
        kept = persisted(client, rows)
    finally:
        let_go(held)

    def identity() -> str:
        from dask.base import tokenize

        source = X.source.identity() if isinstance(X, Spread) else X
        return f"{tokenize(source, y, sample_weight)} {edges}"

    return Partitions(kept, edges, n_features, dtype, names, identity)


def persisted(client: Any, tasks: list[Any]) -> list[Any]:
    """The tasks, started, their results kept on the workers; a large y in the graph is no news."""
    import dask

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        kept: list[Any] = client.persist(tasks)
    return kept


def grouped(lengths: Sequence[int], row_bytes: int) -> list[list[int]]:
    """Neighbouring blocks that make a part each, by their places; empty ones are left out.

    Parameters
    ----------
    lengths : sequence of int
        Rows of the blocks.
    row_bytes : int
        Bytes of a row as it is stored.

    Returns
    -------
    list of list of int
        One block a part up to `FEW_PARTS` of them; beyond, parts of at least `PART_BYTES`.

    Raises
    ------
    ValueError
        If there are no rows.
    """
    filled = [k for k, n_rows in enumerate(lengths) if n_rows]
    if not filled:
        raise ValueError("X has no rows: pass at least one.")
    groups: list[list[int]] = []
    least = 0 if len(filled) <= FEW_PARTS else PART_BYTES
    size = least
    for k in filled:
        if size >= least:
            groups.append([])
            size = 0
        groups[-1].append(k)
        size += lengths[k] * row_bytes
    return groups


def _blocks_of_X(
    client: Any, X: Any, held: list[Any]
) -> tuple[list[Any], list[int], Any, int, np.dtype[Any]]:
    """Blocks of whole rows, their lengths, names of the columns, their number and dtype."""
    if isinstance(X, Spread):
        source = X.source
        n, d = source.shape
        n_parts = min(FEW_PARTS, -(-n * d * source.dtype.itemsize // RANGE_BYTES), n)
        edges = [n * k // n_parts for k in range(n_parts + 1)]
        ranges = [RowRange(source, a, b) for a, b in pairwise(edges)]
        lengths = [part.shape[0] for part in ranges]
        return ranges, lengths, source.feature_names, d, source.dtype
    if getattr(X, "ndim", 0) != 2 or X.shape[1] == 0:
        raise ValueError("X must be (n_samples, n_features), none of them 0.")
    names = list(X.columns) if hasattr(X, "columns") else None
    if names is not None:
        dtype = _dtype_of_frame(X)
    elif not is_sparse(X._meta):
        dtype = delivered_dtype("X", np.dtype(str(X.dtype)))
    else:
        raise ValueError("X has sparse chunks, which a cluster does not take: make them dense.")
    if names is None and X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    blocks = persisted(client, _delayed(X))
    held += blocks
    return blocks, _lengths(client, X, blocks), names, int(X.shape[1]), dtype


def _dtype_of_frame(frame: Any) -> np.dtype[Any]:
    """As for a frame in memory: float32 where that holds all columns, else float64."""
    columns = []
    for name, dtype in frame.dtypes.items():
        try:
            stored = np.dtype(getattr(dtype, "numpy_dtype", dtype))  # of Int64 and its kind
        except TypeError:
            stored = np.dtype(object)
        delivered_dtype(f"X, column {name!r}", stored)
        columns.append(stored)
    together = np.result_type(*columns)
    return together if together == np.float32 else np.dtype(np.float64)


def _delayed(collection: Any) -> list[Any]:
    """One Delayed a block or partition."""
    blocks = collection.to_delayed()
    return list(blocks.ravel()) if hasattr(blocks, "ravel") else list(blocks)


def _lengths(client: Any, collection: Any, blocks: list[Any]) -> list[int]:
    """Rows of each block, counted on the workers where the collection does not know."""
    chunks = getattr(collection, "chunks", None)
    if chunks is not None and not np.isnan(chunks[0]).any():
        return list(chunks[0])
    return answers(client, [task(len)(block) for block in blocks])


def _aligned(
    client: Any, values: Any, edges: list[int], complaint: str, held: list[Any]
) -> list[Any]:
    """For each part the pieces (block, start, stop) of a column; None where there is no column."""
    spans = list(pairwise(edges))
    if values is None:
        return [None] * len(spans)
    if is_dask(values):
        blocks = persisted(client, _delayed(values))
        held += blocks
        lengths = _lengths(client, values, blocks)
    else:
        values = np.asarray(to_host(values))
        lengths = [len(values)]
    starts = [0, *accumulate(lengths)]
    if starts[-1] != edges[-1]:
        raise ValueError(
            f"{complaint.format(starts[-1])} but X has {edges[-1]} rows: pass one a row."
        )
    if not is_dask(values):
        return [[(values[a:b], 0, b - a)] for a, b in spans]
    return [
        [
            (block, max(a, first) - first, min(b, last) - first)
            for block, first, last in zip(blocks, starts, starts[1:], strict=False)
            if first < b and last > a
        ]
        for a, b in spans
    ]


def _or(given: Any, else_: Any) -> Any:
    return else_ if given is None else given


def _join(
    blocks: list[Any], labels: list[Any], weights: Any, dtype: Any, start: int, place: int
) -> Rows:
    """On a worker: the rows of a part, looked through for what is not finite."""
    y = _column(labels)
    weight = None if weights is None else _column(weights)
    if is_source(blocks[0]):
        return Rows(blocks[0], y, weight)
    arrays = [_array(block, dtype) for block in blocks]
    xp = namespace(arrays[0])
    X = arrays[0] if len(arrays) == 1 else xp.concat(arrays)
    _check(X, xp, start, f"X, partition {place}")
    return Rows(aligned(X), y, weight)


def _array(block: Any, dtype: Any) -> Array:
    """A block or data frame in the dtype of storage, row by row."""
    X = block
    if hasattr(block, "to_numpy"):
        X = block.to_numpy(dtype=dtype, na_value=np.nan)
    if is_device_array(X):
        xp = namespace(X)
        return xp.astype(X, getattr(xp, str(dtype), dtype), copy=False)
    return np.ascontiguousarray(X, dtype=dtype)


def _check(X: Array, xp: Any, start: int, name: str) -> None:
    """Refuse NaN and infinity, with the place."""
    if "int" in str(X.dtype):
        return
    for rows in row_blocks(X.shape[0], 8 * X.shape[1], FINITE_BLOCK_BYTES):
        if not bool(xp.all(xp.isfinite(X[rows, :]))):
            check_finite(to_host(X[rows, :]), start + rows.start, name)


def _column(pieces: list[tuple[Any, int, int]]) -> Array:
    """Labels or weights of a part, from pieces of their blocks."""
    parts = []
    for block, start, stop in pieces:
        values = np.asarray(to_host(block.to_numpy() if hasattr(block, "to_numpy") else block))
        if values.size != len(values):
            raise ValueError(f"y has shape {values.shape}: pass one label a row, (n_samples,).")
        parts.append(values.reshape(-1)[start:stop])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
