"""Blocks of rows brought to a device while it computes on the blocks before."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

from accel.backends.base import Uploader

if TYPE_CHECKING:
    from accel.backends.base import Backend

Array = Any
# All but one are read ahead, each by a thread of its own: a disk likes two requests at a time.
HOST_BUFFERS = 3


class Pipeline:
    """Blocks read ahead by threads, copied on a second stream and computed on, all at once.

    Parameters
    ----------
    backend : Backend
        Computes.
    block_rows : int
        Rows of a block.
    row : ndarray (0, n_features)
        No row, of the dtype and width of those to come.
    """

    def __init__(self, backend: Backend, block_rows: int, row: Array) -> None:
        self._link = backend.uploader()
        shape, dtype = (block_rows, row.shape[1]), backend.asarray(row).dtype
        self._host = [self._link.host(shape, row.dtype) for _ in range(HOST_BUFFERS)]
        self._device = [backend.xp.empty(shape, dtype=dtype, device=backend.device) for _ in (0, 1)]

    def map(
        self,
        function: Callable[[Array, slice], Any],
        read: Callable[[slice, Array], None],
        cuts: Sequence[slice],
        abandon: Callable[[], None],
    ) -> Iterator[Any]:
        """function(X, rows) for each block, in order; see `accel.backends.base.Streamer`."""
        blocks = uploaded(
            cuts, lambda k, out: read(cuts[k], out), self._host, self._device, self._link, abandon
        )
        with closing(blocks):
            for rows, X in zip(cuts, blocks, strict=True):
                yield function(X, rows)


def uploaded(
    cuts: Sequence[slice],
    fill: Callable[[int, Array], None],
    host: Sequence[Array],
    device: Sequence[Array],
    link: Uploader,
    abandon: Callable[[], None] = lambda: None,
) -> Generator[Array, None, None]:
    """The blocks of a pass on the device, one after the other.

    Parameters
    ----------
    cuts : sequence of slice
        The blocks, each at most as long as a buffer.
    fill : callable
        (k, out) writes the rows of cuts[k] to out, in host memory; called from threads, in order.
    host : sequence of ndarray
        Two or more buffers that the device reads directly: all but one are filled ahead.
    device : sequence of array
        Two buffers: a block is copied into one while the other is computed on.
    link : Uploader
        What copies.
    abandon : callable, optional
        Called at the end, however it came: ends what a thread in fill may still wait for.

    Yields
    ------
    array (n_rows, ...)
        A view of a device buffer, good until the next but one is asked for.
    """
    tokens: list[Any] = [None] * len(host)
    ahead = len(host) - 1

    def filled(k: int) -> Array:
        token = tokens[k % len(host)]
        if token is not None:  # the copy that reads this buffer
            link.wait_on_host(token)
        out = host[k % len(host)][: cuts[k].stop - cuts[k].start, ...]
        fill(k, out)
        return out

    pool = ThreadPoolExecutor(ahead, thread_name_prefix="accel-read")
    try:
        futures = [pool.submit(filled, k) for k in range(min(ahead, len(cuts)))]
        present: Array = None
        for k in range(len(cuts) + 1):
            following: Array = None
            if k < len(cuts):
                source = futures[k].result()
                following = device[k % 2][: source.shape[0], ...]
                tokens[k % len(host)] = link.upload(source, following)
                if k + ahead < len(cuts):
                    futures.append(pool.submit(filled, k + ahead))
            if k:  # the copy of block k runs while block k - 1 is computed on
                link.wait_on_device(tokens[(k - 1) % len(host)])
                yield present
            present = following
    finally:  # a pass that is left early leaves no copy behind that writes into its arrays
        abandon()
        pool.shutdown(wait=True, cancel_futures=True)
        for token in tokens:
            if token is not None:
                link.wait_on_host(token)
