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
SAMPLE_OF_ROOM = 4
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
    def row_bytes(self) -> int:
        """A row of X on its way through the model and back."""
        return self.real_bytes * (self.shape[1] + 4 * self.n_outputs)

    def sample_rows(self, room: int) -> int:
        """Rows of the sample of a streamed X, where a fit may take so many bytes."""
        n, d = self.shape
        most = halved_until(SAMPLE_BYTES, room // SAMPLE_OF_ROOM)
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
    X: Array,
    sizes: Sizes,
    backend: Backend,
    last_resort: Backend | None,
    asked: str,
    share: int = 1,
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
    share : int, default=1
        How many such fits the free memory is for, as where a machine holds many partitions.

    Yields
    ------
    Place
        X whole on the device if it fits, in smaller and smaller blocks; then streamed, likewise;
        then the last resort. Free memory is asked for anew where it decides.

    Raises
    ------
    MemoryError
        If there is no place at all.
    ValueError
        If X of this kind cannot be placed as asked.
    """
    can_stream = not is_sparse(X) and not is_device_array(X)
    if asked == "stream" and not can_stream:
        raise ValueError(
            "placement='stream' is for X in host memory or on disk, dense: leave it 'auto'."
        )
    tried = False
    for device in filter(None, (backend, last_resort)):
        for place in _on(device, X, sizes, asked, share):
            tried = True
            is_last = device is last_resort and not place.reason
            yield replace(place, reason="Placement: on the CPU.") if is_last else place
    if not tried:
        smallest = last_resort or backend
        room = size(_room(smallest, share))
        needed, beside = _needed(sizes, smallest)
        raise MemoryError(
            f"placement={asked!r}: the fit needs {size(needed)}, {size(beside)} of it for labels, "
            f"weights and curvatures, and there is room for {room}: free memory, or fit fewer rows."
        )


def _on(device: Backend, X: Array, sizes: Sizes, asked: str, share: int) -> Iterator[Place]:
    """The places on one device."""
    is_at_home = is_device_array(X) or is_sparse(X) or (_is_in_memory(X) and device.is_host)
    if asked != "stream":
        yield from _resident(sizes, device, share, is_at_home=is_at_home)
    if asked == "stream" or (asked == "auto" and not is_at_home):
        yield from _streamed("memory" if _is_in_memory(X) else "disk", sizes, device, asked, share)


def _resident(sizes: Sizes, backend: Backend, share: int, *, is_at_home: bool) -> Iterator[Place]:
    """X whole, where it is already or has room."""
    room, reason = _room(backend, share), ""
    if not is_at_home:
        needed, _ = _needed(sizes, backend)
        if needed > room:
            return
        reason = (
            f"Placement: the fit needs {size(needed)}, there is room for {size(room)}: "
            f"X is loaded whole on {backend.name}."
        )
    for cut in range(1, 2 + SMALLER_TWICE):
        yield _place(sizes, backend, share, is_streamed=False, reason=reason)
        backend = backend.with_smaller_blocks()
        reason = f"Placement: X whole on {backend.name}, in blocks of 1/{4**cut} of their size."


def _streamed(
    source: str, sizes: Sizes, backend: Backend, asked: str, share: int
) -> Iterator[Place]:
    """X brought block by block, where at least what goes with its rows has room."""
    room, (needed, beside) = _room(backend, share), _needed(sizes, backend)
    if beside > room:
        return
    for _ in range(1 + SMALLER_TWICE):
        place = _place(sizes, backend, share, is_streamed=True, reason="")
        block = size(place.block_rows * sizes.stored_bytes / sizes.shape[0])
        why = "asked for: " if asked == "stream" else ""
        if not why and needed > room:
            why = (
                f"the fit needs {size(needed)}, there is room for {size(room)} on {backend.name}: "
            )
        yield replace(
            place, reason=f"Placement: {why}X is streamed from {source} in blocks of {block}."
        )
        backend = backend.with_smaller_blocks()


def _needed(sizes: Sizes, backend: Backend) -> tuple[int, int]:
    """What a fit with X whole on the device needs, and what of it goes with the rows."""
    passing = backend.temporary_bytes(sizes.shape[0], sizes.row_bytes)
    return sizes.stored_bytes + sizes.vector_bytes + passing, sizes.vector_bytes


def _room(backend: Backend, share: int) -> int:
    """What a fit may take of the free memory."""
    free = backend.free_bytes() // share
    return int(HOST_SHARE * free) if backend.is_host else free


def _place(sizes: Sizes, backend: Backend, share: int, *, is_streamed: bool, reason: str) -> Place:
    room = _room(backend, share)
    block_rows = max(1, backend.stream_bytes(room) // sizes.row_bytes)
    return Place(
        backend, min(block_rows, sizes.shape[0]), is_streamed, sizes.sample_rows(room), reason
    )


def _is_in_memory(X: Array) -> bool:
    return isinstance(X, np.ndarray)


def size(n_bytes: float) -> str:
    """A size for people, in powers of ten: 9.3 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.3g} {unit}"
