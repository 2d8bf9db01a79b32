"""Blocks of rows brought to a device while it computes on the blocks before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from accel.backends.base import Uploader

Array = Any


def uploaded(
    cuts: Sequence[slice],
    fill: Callable[[int, Array], None],
    host: Sequence[Array],
    device: Sequence[Array],
    link: Uploader,
) -> Iterator[Array]:
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
        pool.shutdown(wait=True, cancel_futures=True)
        for token in tokens:
            if token is not None:
                link.wait_on_host(token)
