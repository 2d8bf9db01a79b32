"""Some rows of a source, in host memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.sources.base import Reader, Source, blocks, close, row_bytes

Array = Any

SEEK_BYTES = 2**16  # rows further apart than this are read one by one: a disk reads on for less


def take(source: Source, rows: slice) -> Array:
    """Some rows of a source, in host memory.

    Parameters
    ----------
    source : Source
        Where they lie.
    rows : slice
        Which, with a positive step.

    Returns
    -------
    ndarray (n_rows, n_features)
        In the dtype of the source. Rows far apart are read one by one where the source is random;
        else what lies between them is read too, in blocks of bounded size.

    Raises
    ------
    DataError
        If they cannot be read.
    """
    wanted = range(source.shape[0])[rows]
    if wanted.step < 1:
        raise ValueError(f"rows={rows}: the step must be positive.")
    out = np.empty((len(wanted), source.shape[1]), source.dtype)
    read = source.reader()
    try:
        if source.is_random and wanted.step > 1 and wanted.step * row_bytes(source) > SEEK_BYTES:
            for place, row in enumerate(wanted):
                read(slice(row, row + 1), out[place : place + 1])
        else:
            _read_on(read, wanted, out, first=wanted.start if source.is_random else 0)
    finally:
        close(read)
    return out


def _read_on(read: Reader, wanted: range, out: Array, first: int) -> None:
    """Read all rows from the first one to the last one wanted, and keep those that are."""
    done, buffer = 0, np.empty((0, *out.shape[1:]), out.dtype)
    for rows in blocks(first, wanted[-1] + 1 if wanted else first, out.shape[1] * out.itemsize):
        n_rows = rows.stop - rows.start
        if len(buffer) < n_rows:
            buffer = np.empty((n_rows, *out.shape[1:]), out.dtype)
        read(rows, buffer[:n_rows])
        ahead = wanted.start - rows.start
        kept = buffer[max(ahead, ahead % wanted.step) : n_rows : wanted.step]
        out[done : done + len(kept)] = kept
        done += len(kept)
