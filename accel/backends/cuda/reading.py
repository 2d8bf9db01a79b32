"""The ceiling of every pass on an NVIDIA GPU: a kernel that reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.backends.cuda.device import device_of
from accel.backends.cuda.source import function_of

Array = Any
THREADS = 256
BLOCKS = 8  # of a processor
WORD_BYTES = 16


def reader(cupy: Any, index: int, X: Array) -> Callable[[], None]:
    """A call that asks the GPU to read an array once; it does not wait.

    Parameters
    ----------
    cupy : module
        CuPy.
    index : int
        Of the GPU, the current one.
    X : array
        Contiguous, on 16 bytes, of whole words of 16 bytes.

    Returns
    -------
    callable
        Takes nothing, gives nothing.
    """
    function = function_of(cupy, index, "reading", ("reading.cu",), {"THREADS": THREADS})
    blocks = BLOCKS * device_of(cupy, index).processors
    never = cupy.zeros(1, dtype=np.uint32)
    n_words = np.int64(X.nbytes // WORD_BYTES)

    def read() -> None:
        function((blocks,), (THREADS,), (X, n_words, never))

    return read
