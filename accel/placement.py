"""Where a fit keeps X, decided from sizes and free memory before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accel.backends import Backend
from accel.backends.base import halved_until
from accel.backends.interchange import is_device_array, is_sparse

Array = Any

# Of free host memory, what a fit may take: the page cache wants some too.
HOST_SHARE = 0.5
# The sample of a streamed X: a sixteenth of it, or 40 rows a column where that is more, in bounds.
SAMPLE_SHARE = 16
SAMPLE_ROWS_PER_COLUMN = 40
SAMPLE_BYTES = 256 << 20
FEWEST_SAMPLE_ROWS = 4096
SAMPLE_OF_FREE = 8
SMALLER_TWICE = 2
PLACEMENTS = ("auto", "resident", "stream")


@dataclass(frozen=True)
class Sizes:
    """What a fit of a linear model holds, in bytes.

    Parameters
    ----------
    shape : tuple of int
        Of X.
    stored_bytes : int
        Of X as it is stored.
    real_bytes : int
        Of a number of the arithmetic, 4 or 8.
    n_outputs : int
        Columns of the raw predictions.
    """

    shape: tuple[int, int]
    stored_bytes: int
    real_bytes: int
    n_outputs: int

    @property
    def vector_bytes(self) -> int:
        """Labels, weights (again in float64 for the certificate) and curvatures of all rows."""
        return self.shape[0] * (4 + 8 + self.real_bytes * (1 + self.n_outputs))

    @property
    def needed_bytes(self) -> int:
        """X and what goes with its rows."""
        return self.stored_bytes + self.vector_bytes

    @property
    def row_bytes(self) -> int:
        """A row of X on its way through the model and back."""
        return self.real_bytes * (self.shape[1] + 4 * self.n_outputs)

    def sample_rows(self, free_bytes: int) -> int:
        """Rows of the sample of a streamed X, where so much is free."""
        n, d = self.shape
        most = halved_until(SAMPLE_BYTES, free_bytes // SAMPLE_OF_FREE)
        wanted = max(FEWEST_SAMPLE_ROWS, n // SAMPLE_SHARE, SAMPLE_ROWS_PER_COLUMN * (d + 1))
        return max(1, min(n, wanted, most // (self.real_bytes * d)))


@dataclass(frozen=True)
class Place:
    """Where a fit is tried.

    Parameters
    ----------
    backend : Backend
        Computes.
    block_rows : int
        Rows of a block in which X is brought to the device.
    is_streamed : bool
        Whether it is brought in every pass, or once.
    sample_rows : int
        Rows of a streamed X that are kept at hand.
    reason : str
        One sentence; empty where there was nothing to decide.
    """

    backend: Backend
    block_rows: int
    is_streamed: bool
    sample_rows: int
    reason: str


def places(
    X: Array, sizes: Sizes, backend: Backend, last_resort: Backend | None, asked: str
) -> Iterator[Place]:
    """Where to try a fit, one place after the other as memory runs out.

    Parameters
    ----------
    X : array, sparse matrix or Source (n_samples, n_features)
        Where it lies.
    sizes : Sizes
        What the fit holds.
    backend : Backend
        To compute on.
    last_resort : Backend or None
        The CPU, where the backend was not required by name.
    asked : {"auto", "resident", "stream"}
        "auto" prefers, the others require.

    Yields
    ------
    Place
        X whole on the device if it fits, in smaller and smaller blocks; then streamed, likewise;
        then the last resort. Free memory is asked for anew for each.

    Raises
    ------
    MemoryError
        If it is plain beforehand that there is no room.
    ValueError
        If X of this kind cannot be placed as asked.
    """
    can_stream = not is_sparse(X) and not is_device_array(X)
    if asked == "stream" and not can_stream:
        raise ValueError(
            "placement='stream' is for X in host memory or on disk, dense: leave it 'auto'."
        )
    if asked != "stream":
        yield from _resident(X, sizes, backend, asked)
    if asked == "stream" or (asked == "auto" and can_stream and not _is_at_home(X, backend)):
        yield from _streamed(X, sizes, backend, asked)
    if last_resort is not None:
        for place in places(X, sizes, last_resort, None, asked):
            yield replace(place, reason=place.reason or "Placement: on the CPU.")


def _resident(X: Array, sizes: Sizes, backend: Backend, asked: str) -> Iterator[Place]:
    """X whole, where it is already or has room."""
    room, reason = _room(backend), ""
    if not _is_at_home(X, backend):
        account = f"the fit needs {size(sizes.needed_bytes)}, there is room for {size(room)}"
        if sizes.needed_bytes > room:
            if asked == "resident":
                raise MemoryError(
                    f"placement='resident': {account} on {backend.name}, use placement='auto'."
                )
            return
        reason = f"Placement: {account}: X is loaded whole on {backend.name}."
    for cut in range(1, 2 + SMALLER_TWICE):
        yield _place(sizes, backend, is_streamed=False, reason=reason)
        backend = backend.with_smaller_blocks()
        reason = f"Placement: X whole on {backend.name}, in blocks of 1/{4**cut} of their size."


def _streamed(X: Array, sizes: Sizes, backend: Backend, asked: str) -> Iterator[Place]:
    """X brought block by block, where at least what goes with its rows has room."""
    source = "memory" if isinstance(X, np.ndarray) else "disk"
    for _ in range(1 + SMALLER_TWICE):
        room = _room(backend)
        if sizes.vector_bytes > room:
            return
        place = _place(sizes, backend, is_streamed=True, reason="")
        block = size(place.block_rows * sizes.stored_bytes / sizes.shape[0])
        why = (
            "asked for"
            if asked == "stream"
            else f"the fit needs {size(sizes.needed_bytes)}, there is room for {size(room)} on "
            f"{backend.name}"
        )
        reason = f"Placement: {why}: X is streamed from {source} in blocks of {block}."
        yield replace(place, reason=reason)
        backend = backend.with_smaller_blocks()


def _room(backend: Backend) -> int:
    """What a fit may take of the free memory."""
    free = backend.free_bytes()
    return int(HOST_SHARE * free) if backend.is_host else free


def _place(sizes: Sizes, backend: Backend, *, is_streamed: bool, reason: str) -> Place:
    free = backend.free_bytes()
    block_rows = max(1, backend.stream_bytes(free) // sizes.row_bytes)
    return Place(
        backend, min(block_rows, sizes.shape[0]), is_streamed, sizes.sample_rows(free), reason
    )


def _is_at_home(X: Array, backend: Backend) -> bool:
    """Whether X lies where it is computed on."""
    return is_device_array(X) or is_sparse(X) or (isinstance(X, np.ndarray) and backend.is_host)


def size(n_bytes: float) -> str:
    """A size for people, in powers of ten: 9.3 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.3g} {unit}"
