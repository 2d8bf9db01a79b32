"""The launch that adds up what the blocks of a pass have, on an NVIDIA GPU."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from accel.backends.cuda.source import NULL, function_of, macros_of

Array = Any
THREADS = 1024
COLUMNS = 32  # that a block adds up
SHARED_BYTES = 8 * 32 * 33


class Reduction:
    """Sums over teams, in a fixed order: the same bits whichever block ends first.

    Parameters
    ----------
    cupy : module
        CuPy.
    index : int
        Of the GPU, the current one in every call.
    real : {"float32", "float64"}
        Of the arithmetic.
    n_outputs : int
        Columns of W.
    has_peaks : bool, default=False
        Whether of some columns the largest is taken instead.
    """

    def __init__(
        self, cupy: Any, index: int, real: str, n_outputs: int, *, has_peaks: bool = False
    ) -> None:
        self._cupy, self._index = cupy, index
        self._macros = {**macros_of(None, real, None, n_outputs), "PEAKS": int(has_peaks)}

    def __call__(
        self,
        partial_value: Any,
        partial: Array,
        numbers: tuple[int, int],
        optional: tuple[Any, Any, Any],
        value: Any,
        out: Array,
    ) -> None:
        """Add up.

        Parameters
        ----------
        partial_value : array (blocks,) of float64 or NULL
            Sums of the value.
        partial : array (teams, size)
            Sums of every column.
        numbers : tuple of int
            Columns before those whose end is another one, and whether there are intercepts: as
            reduce.cu has them, n_in and has_bias.
        optional : tuple of array or NULL
            Parameters, factor of X and penalty.
        value : 0-d array of float64 or NULL
            Written.
        out : array
            Written.
        """
        teams, size = partial.shape
        blocks = 0 if partial_value is NULL else partial_value.size
        counts = map(np.int32, (blocks, teams, size, *numbers))
        self._function(
            (-(-size // COLUMNS),),
            (THREADS,),
            (partial_value, partial, *counts, *optional, value, out),
            shared_mem=SHARED_BYTES,
        )

    @cached_property
    def _function(self) -> Any:
        return function_of(self._cupy, self._index, "reduce_teams", ("reduce.cu",), self._macros)
