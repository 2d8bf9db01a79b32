"""Threads of the CPU: blocks on a pool of them, with BLAS on one thread inside."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache, partial
from typing import Any

from accel.backends.interchange import aligned_empty

CONTROL = 0  # the pool whose one thread limits those of BLAS


@cache
def blas_controller() -> Any:
    """What reads and limits the threads of every BLAS in the process."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def blas_threads() -> list[int]:
    """What each BLAS in the process may use now."""
    return [library["num_threads"] for library in blas_controller().select(user_api="blas").info()]


def n_threads() -> int:
    """What BLAS may use: OMP_NUM_THREADS, joblib's and threadpoolctl's limits are in it already."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min([cores, *blas_threads()]))


class OneBlasThread:
    """Inside it BLAS runs on one thread.

    The limit is the whole process's, so concurrent fits share one: the first in sets it, the last
    out restores what it found. A fit that starts in between sees one thread and runs on one. Both
    are done by one thread of their own: threadpoolctl heeds no other than the one that set a limit
    until that one lifts it (3.8, `clear_controlling_thread`).
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                limit = partial(blas_controller().limit, limits=1, user_api="blas")
                self._limit = _pool(os.getpid(), CONTROL).submit(limit).result()
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                lift = partial(self._limit.__exit__, None, None, None)
                _pool(os.getpid(), CONTROL).submit(lift).result()


ONE_BLAS_THREAD = OneBlasThread()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001
    """One pool a process: threads do not survive a fork."""
    return ThreadPoolExecutor(max(1, threads), thread_name_prefix="accel")


class ThreadedStream:
    """Blocks on threads, each of which reads a block and computes on it.

    Parameters
    ----------
    shape : tuple of int
        Rows of a block, and columns.
    dtype : dtype
        Of the rows.
    threads : int
        At most so many blocks at a time.
    """

    def __init__(self, shape: tuple[int, int], dtype: Any, threads: int) -> None:
        self._shape, self._dtype, self._threads = shape, dtype, threads
        self._free: list[Any] = []

    def map(
        self,
        function: Callable[[Any, slice], Any],
        read: Callable[[slice, Any], None],
        cuts: Sequence[slice],
        abandon: Callable[[], None],
    ) -> Iterator[Any]:
        """See `accel.backends.base.Streamer`."""

        def run(rows: slice) -> Any:
            try:
                buffer = self._free.pop()
            except IndexError:
                buffer = aligned_empty(self._shape, self._dtype)
            try:
                X = buffer[: rows.stop - rows.start]
                read(rows, X)
                return function(X, rows)
            finally:
                self._free.append(buffer)

        return on_threads(run, cuts, self._threads, abandon)


def on_threads(
    function: Callable[[slice], Any],
    blocks: Sequence[slice],
    threads: int,
    abandon: Callable[[], None] = lambda: None,
) -> Iterator[Any]:
    """The results in the order of the blocks, with BLAS single-threaded inside.

    A few results wait at most, and a pass that is left leaves no thread behind in its blocks.
    """
    with ONE_BLAS_THREAD:
        pool, waiting = _pool(os.getpid(), threads), deque[Future[Any]]()
        try:
            for rows in blocks:
                # NumPy's error state is a context variable: a thread has its own unless given one
                waiting.append(pool.submit(copy_context().run, function, rows))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            abandon()
            for future in waiting:
                future.cancel()
            wait(waiting)
