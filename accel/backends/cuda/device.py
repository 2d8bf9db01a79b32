"""What a GPU gives to a layout: registers, processors, the bytes that a load may have."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

REGISTERS = 65_536  # of a processor, 4 bytes each, on every architecture from 7.0 on
MOST_REGISTERS = 255  # of a thread
MOST_BLOCKS = 8  # of a processor


class Device(NamedTuple):
    """What a layout depends on.

    Parameters
    ----------
    capability : int
        90 for compute capability 9.0.
    processors : int
        Multiprocessors.
    shared_bytes : int
        Shared memory that a block can have.
    l2_bytes : int
        Of the L2 cache.
    """

    capability: int
    processors: int
    shared_bytes: int
    l2_bytes: int


@cache
def device_of(cupy: Any, index: int) -> Device:
    """What layouts depend on, of GPU `index`."""
    facts = cupy.cuda.runtime.getDeviceProperties(index)
    capability = 10 * facts["major"] + facts["minor"]
    shared, cache_bytes = facts["sharedMemPerBlockOptin"], facts["l2CacheSize"]
    return Device(capability, facts["multiProcessorCount"], shared, cache_bytes)


def registers_of(warps: int) -> int:
    """Registers for each of so many warps of a processor, of whose four parts each has a fourth."""
    return min(MOST_REGISTERS, REGISTERS // 4 // (32 * -(-warps // 4)) // 8 * 8)


def pitch_of(X: Any) -> int | None:
    """Elements from one row of X to the next; None where no kernel can read it.

    The elements of a row must lie side by side, and rows begin whole elements apart.
    """
    (n, d), (step, within), itemsize = X.shape, X.strides, X.dtype.itemsize
    if 0 in (n, d) or (within != itemsize and d > 1) or (step % itemsize and n > 1):
        return None
    return int(step // itemsize) if n > 1 else int(d)


def load_bytes_of(itemsize: int, n_columns: int, pitch: int, address: int) -> int:
    """Bytes of a load: the most, up to 16, by which rows begin and end.

    Parameters
    ----------
    itemsize : int
        Bytes of an element.
    n_columns : int
        Of X.
    pitch : int
        Elements from one row to the next.
    address : int
        Of the first element; it may be odd in a view.

    Returns
    -------
    int
        A power of two, at least itemsize.
    """
    place = 16 | address | n_columns * itemsize | pitch * itemsize
    return max(itemsize, place & -place)
