"""Where the rows of X lie: on the device whole, or brought there block by block in every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.backends.base import row_blocks
from accel.backends.interchange import aligned_empty, rows_of
from accel.sources import DataError, Source, close

if TYPE_CHECKING:
    from accel.backends import Backend

Array = Any


# A run of adjacent rows of a sample: a disk reads this much in the time of any less.
RUN_BYTES = 64 << 10
SAMPLE_SEED = 20
FEWEST_OF_A_CLASS = 200  # rows of a class that a sample should know


class Streamed:
    """X as a source of rows that are brought to the device block by block.

    It has what a backend asks of an array before it is read: shape, dtype, size, layout.

    Parameters
    ----------
    source : Source
        On disk or in host memory.
    block_rows : int
        Rows of a block. The same blocks give the same bits.
    backend : Backend
        Computes.

    Notes
    -----
    The first pass looks whether every number is finite, as `fit` does with an array.
    """

    flags = SimpleNamespace(c_contiguous=True)  # of the blocks

    def __init__(self, source: Source, block_rows: int, backend: Backend) -> None:
        self.source, self.block_rows, self._backend = source, block_rows, backend
        self.shape, self.dtype = source.shape, np.dtype(source.dtype)
        self.size = self.shape[0] * self.shape[1]
        self.nbytes = self.size * self.dtype.itemsize
        self._streamer = backend.streamer(block_rows, np.empty((0, self.shape[1]), self.dtype))
        self._is_checked = "int" in str(self.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        """Opened anew where it is unpickled."""
        return Streamed, (self.source, self.block_rows, self._backend)

    def map(self, function: Callable[[Array, slice], Any]) -> Iterator[Any]:
        """function(X, rows) of every block, in order; see `Backend.streamer`."""
        reader, cuts = self.source.reader(), row_blocks(self.shape[0], 1, self.block_rows)
        read = reader if self._is_checked else self._checked(reader)
        yield from self._streamer.map(function, read, cuts, partial(close, reader))
        self._is_checked = True

    def with_smaller_blocks(self, backend: Backend) -> Streamed:
        """The same rows in blocks of a quarter."""
        return Streamed(self.source, max(1, self.block_rows // 4), backend)

    def _checked(self, read: Callable[[slice, Array], None]) -> Callable[[slice, Array], None]:
        """The same, and the error of the first number that is not finite."""

        def checked(rows: slice, out: Array) -> None:
            read(rows, out)
            with np.errstate(all="ignore"):
                total = np.sum(out, dtype=np.float32 if out.itemsize < 8 else np.float64)
            if not np.isfinite(total):  # or the sum overflowed
                check_finite(out, rows.start, self.source.name)

        return checked


def load(source: Source, block_rows: int, backend: Backend) -> Array:
    """All rows of a source on the device, brought there block by block.

    Parameters
    ----------
    source : Source
        Where they lie.
    block_rows : int
        Rows brought at a time.
    backend : Backend
        Holds the result.

    Returns
    -------
    array (n_samples, n_features)
        In the dtype of the source.

    Raises
    ------
    DataError
        If they cannot be read or a number is not finite.
    """
    streamed, xp = Streamed(source, block_rows, backend), backend.xp
    if backend.is_host:
        whole = aligned_empty(streamed.shape, streamed.dtype)
    else:
        dtype = backend.asarray(np.empty((0, 0), streamed.dtype)).dtype
        whole = xp.empty(streamed.shape, dtype=dtype, device=backend.device)

    def put(X: Array, rows: slice) -> None:
        whole[rows, :] = X

    for _ in streamed.map(put):
        pass
    return whole


def sample_runs(n_rows: int, n_columns: int, itemsize: int, n_wanted: int) -> list[slice]:
    """Short runs of rows, one at a random place of each of equal parts, the same ones every time.

    Parameters
    ----------
    n_rows, n_columns : int
        Rows there are, and their length.
    itemsize : int
        Bytes of a number as it is stored.
    n_wanted : int
        Rows to take, about.

    Returns
    -------
    list of slice
        In order, without overlap; all rows in one run where as many are wanted.

    Notes
    -----
    Equal parts see through rows that are sorted, random places through rows that repeat.
    """
    if n_wanted >= n_rows:
        return [slice(0, n_rows)]
    length = max(1, min(RUN_BYTES // (n_columns * itemsize), n_wanted // 256))
    edges = np.linspace(0, n_rows, max(1, n_wanted // length) + 1).astype(np.int64)
    room = np.maximum(np.diff(edges) - length, 0)
    first = edges[:-1] + np.random.default_rng(SAMPLE_SEED).integers(0, room + 1)
    return [slice(int(a), int(min(a + length, n_rows))) for a in first]


def rows_in(runs: list[slice]) -> NDArray[np.intp]:
    """The places of the rows of runs."""
    return np.concatenate([np.arange(run.start, run.stop) for run in runs])


def runs_of(places: NDArray[np.intp]) -> list[slice]:
    """The runs that places in order make up."""
    first = np.flatnonzero(np.diff(places, prepend=places[0] - 2) != 1)
    last = np.append(first[1:], len(places)) - 1
    pairs = zip(places[first], places[last], strict=True)
    return [slice(int(start), int(stop) + 1) for start, stop in pairs]


def with_rare(
    places: NDArray[np.intp], index: NDArray[np.intp], weight: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Places of a sample, and more of the rows of classes that have few among them.

    Parameters
    ----------
    places : ndarray of int
        Of the sample, in order.
    index : ndarray (n_samples,) of int
        Class of every row.
    weight : ndarray (n_samples,)
        Weight of every row.

    Returns
    -------
    ndarray of int
        In order. Of a class that the sample hardly knows, up to `FEWEST_OF_A_CLASS` rows that weigh
        something, evenly taken: without them its model would be that of nothing.
    """
    have = np.bincount(index[places[weight[places] > 0]], minlength=int(index.max()) + 1)
    wanted = min(FEWEST_OF_A_CLASS, max(1, len(places) // len(have)))
    rare = np.flatnonzero((have < wanted)[index] & (weight > 0))
    order = rare[np.argsort(index[rare], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(index[order])) + 1)
    more = [group[:: max(1, -(-len(group) // wanted))] for group in groups]
    return np.union1d(places, np.concatenate(more))


def check_finite(X: Array, first: int, name: str) -> None:
    """Refuse rows that hold NaN or infinity.

    Parameters
    ----------
    X : ndarray (n_rows, n_features)
        Rows.
    first : int
        Place of the first of them.
    name : str
        Of what they are from.

    Raises
    ------
    DataError
        With the place and the value.
    """
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{name}: X[{first + row}, {column}] is {X[row, column]}: remove or impute such rows "
            "first."
        )


def is_streamed(X: Array) -> bool:
    """Whether its rows are brought to the device block by block."""
    return isinstance(X, Streamed)


def map_rows(
    X: Array, function: Callable[[Array, slice], Any], row_bytes: int, backend: Backend
) -> Iterator[Any]:
    """function(X, rows) of consecutive blocks of rows, in order: the seam of every pass.

    Parameters
    ----------
    X : array, sparse matrix or Streamed (n_samples, n_features)
        Rows.
    function : callable
        Takes a block of X on the device and the slice that it is.
    row_bytes : int
        Bytes that a row takes on its way.
    backend : Backend
        Decides who runs the blocks, and, of an array, how it is cut.

    Yields
    ------
    object
        The results.
    """
    if is_streamed(X):
        return X.map(function)  # type: ignore[no-any-return]
    return backend.map_blocks(lambda rows: function(rows_of(X, rows), rows), X.shape[0], row_bytes)
