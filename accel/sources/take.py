"""Some rows of a source, in host memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from accel.backends.interchange import aligned_empty
from accel.sources.base import Reader, Source, blocks, close, row_bytes

Array = Any

GATHER_BYTES = 4 << 20


def take(source: Source, rows: slice) -> Array:
    """Rows by a slice.

    Parameters
    ----------
    source : Source
        Where they lie.
    rows : slice
        Which, with a positive step.

    Returns
    -------
    ndarray (n_rows, n_features)
        In the dtype of the source.

    Raises
    ------
    DataError
        If they cannot be read.
    """
    wanted = range(source.shape[0])[rows]
    if wanted.step < 1:
        raise ValueError(f"rows={rows}: the step must be positive.")
    if wanted.step == 1:
        return gather(source, [slice(wanted.start, wanted.start + len(wanted))])
    return gather(source, [slice(row, row + 1) for row in wanted])


def gather(source: Source, runs: Sequence[slice]) -> Array:
    """Runs of rows.

    Parameters
    ----------
    source : Source
        Where they lie: read by runs where any order will do, else up to the last of them.
    runs : sequence of slice
        In order, without overlap.

    Returns
    -------
    ndarray (n_rows, n_features)
        In the dtype of the source; read in blocks of bounded size.

    Raises
    ------
    DataError
        If they cannot be read.
    """
    n_rows = sum(run.stop - run.start for run in runs)
    out, done = aligned_empty((n_rows, source.shape[1]), source.dtype), 0
    reader = source.reader()
    read = reader if source.is_random else _in_order(reader, source)
    try:
        for run in runs:
            for rows in blocks(run.start, run.stop, row_bytes(source), GATHER_BYTES):
                read(rows, out[done : done + rows.stop - rows.start])
                done += rows.stop - rows.start
    finally:
        close(reader)
    return out


def _in_order(read: Reader, source: Source) -> Reader:
    """A reader of runs, from one that must be read from the first row on, block by block."""
    n, d = source.shape
    block_rows = min(n, max(1, GATHER_BYTES // row_bytes(source)))
    block, at = np.empty((block_rows, d), source.dtype), slice(0, 0)

    def read_run(run: slice, out: Array) -> None:
        nonlocal at
        done = run.start
        while done < run.stop:
            if done >= at.stop:
                at = slice(at.stop, min(at.stop + block_rows, n))
                read(at, block[: at.stop - at.start])
                continue
            stop = min(run.stop, at.stop)
            out[done - run.start : stop - run.start] = block[done - at.start : stop - at.start]
            done = stop

    return read_run
