"""Adam's update on an NVIDIA GPU: how adam.cu is specialised and launched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Array = Any

SOURCE = Path(__file__).with_name("adam.cu")
THREADS = 256
MOST_BLOCKS = 1024
REALS = {"float32": "float", "float64": "double"}


def options(dtype: str, threads: int = THREADS) -> tuple[str, ...]:
    """Compiler options that specialise the source for parameters of this dtype."""
    return (f"-DREAL={REALS[dtype]}", f"-DTHREADS={threads}")


@dataclass(frozen=True)
class AdamUpdate:
    """The fused update for one dtype on one GPU.

    Parameters
    ----------
    cupy : module
        CuPy, on the current device.
    dtype : str
        Of the parameters.
    """

    cupy: Any
    dtype: str

    @cached_property
    def _kernel(self) -> Any:
        code, macros = SOURCE.read_text(), options(self.dtype)
        return self.cupy.RawModule(code=code, options=macros).get_function("adam")

    def __call__(
        self,
        params: Array,
        gradient: Array,
        m: Array,
        v: Array,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        rate: float,
    ) -> None:
        """Move the moments and the parameters."""
        n, numbers = params.size, (beta_1, beta_2, epsilon, rate)
        self._kernel(
            (min(MOST_BLOCKS, -(-n // THREADS)),),
            (THREADS,),
            (params, gradient, m, v, *map(self.cupy.float64, numbers), self.cupy.int64(n)),
        )
