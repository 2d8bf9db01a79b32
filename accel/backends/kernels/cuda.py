"""The pass of a linear model on an NVIDIA GPU: how linear_pass.cu is specialised and launched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Array = Any

SOURCE = Path(__file__).with_name("linear_pass.cu")
THREADS = 256
MOST_OUTPUTS = 16
BLOCKS_PER_PROCESSOR = 2
MOST_BLOCKS = 320  # two on each of an H200's processors, and some
PARTIAL_BYTES = 64 << 20  # of all blocks' partial gradients: beyond, row blocks are better
SHARED_BYTES = 44 << 10  # of the 48 KiB every GPU gives without asking; the rest is static

# dtype of X -> (X_BITS, DECODE, REAL)
STORAGE = {
    "float64": ("double", "decode_number", "double"),
    "float32": ("float", "decode_number", "float"),
    "uint8": ("unsigned char", "decode_number", "float"),
    "int8": ("signed char", "decode_number", "float"),
    "float16": ("unsigned short", "decode_half", "float"),
    "bfloat16": ("unsigned short", "decode_bfloat", "float"),
}


def options(dtype: str, n_outputs: int, threads: int = THREADS) -> tuple[str, ...]:
    """Compiler options that specialise the source.

    Parameters
    ----------
    dtype : str
        Of X, a key of `STORAGE`.
    n_outputs : int
        1 to `MOST_OUTPUTS`.
    threads : int, default=THREADS
        Threads of a block.

    Returns
    -------
    tuple of str
        Macro definitions.
    """
    bits, decode, real = STORAGE[dtype]
    label = "signed char" if n_outputs == 1 else "int"
    macros = {"X_BITS": bits, "DECODE": decode, "REAL": real, "LABEL": label}
    numbers = {"K": n_outputs, "THREADS": threads}
    return tuple(f"-D{name}={value}" for name, value in {**macros, **numbers}.items())


@dataclass(frozen=True)
class LinearPass:
    """The fused pass for one dtype and number of outputs on one GPU.

    Parameters
    ----------
    cupy : module
        CuPy, on the current device.
    dtype : str
        Of X.
    n_outputs : int
        Columns of W.
    """

    cupy: Any
    dtype: str
    n_outputs: int

    @cached_property
    def _module(self) -> Any:
        """The compiled source; CuPy keeps it on disk as well."""
        code, macros = SOURCE.read_text(), options(self.dtype, self.n_outputs)
        return self.cupy.RawModule(code=code, options=macros)

    def __call__(
        self, X: Array, Y: Array, s: Array, W: Array, b: Array | None
    ) -> tuple[Array, Array, Array]:
        """Weighted sum of the loss over the rows of X, and its gradient in W and b.

        Parameters
        ----------
        X : array (n, d)
            Contiguous rows.
        Y : array (n, 1)
            As `Loss.encode_target` gives it: int8 for one output, int32 else.
        s : array (n,)
            Weights.
        W : array (d, K)
            Coefficients.
        b : array (K,) or None
            Intercepts; None is zero.

        Returns
        -------
        value : 0-d array of float64
            Sum of the weighted loss.
        g_W : array (d * K,)
            By rows of W.
        g_b : array (K,)
            Gradient in b.
        """
        cupy, (n, d), K = self.cupy, X.shape, self.n_outputs
        processors = cupy.cuda.Device().attributes["MultiProcessorCount"]
        tile = THREADS // 32
        blocks = min(BLOCKS_PER_PROCESSOR * processors, MOST_BLOCKS, -(-n // tile))
        tile_bytes = tile * d * X.dtype.itemsize
        staged = tile_bytes <= SHARED_BYTES
        b = cupy.zeros(K, dtype=s.dtype) if b is None else b
        size = (d + 1) * K
        partial_value = cupy.empty(blocks, dtype=cupy.float64)
        partial = cupy.empty((blocks, size), dtype=s.dtype)
        value, gradient = cupy.empty((), dtype=cupy.float64), cupy.empty(size, dtype=s.dtype)
        self._module.get_function("linear_pass")(
            (blocks,),
            (THREADS,),
            (X, Y, s, cupy.ascontiguousarray(W), b, cupy.int64(n), cupy.int32(d),
             cupy.int32(staged), partial_value, partial),
            shared_mem=tile_bytes if staged else 0,
        )  # fmt: skip
        self._module.get_function("reduce")(
            (-(-size // THREADS),),
            (THREADS,),
            (partial_value, partial, cupy.int32(blocks), cupy.int32(size), value, gradient),
        )
        return value, gradient[: d * K], gradient[d * K :]


def supports(loss: str, X: Array, n_outputs: int) -> bool:
    """Whether the kernel has this loss, dtype, layout and number of outputs."""
    kind = loss == ("logistic" if n_outputs == 1 else "softmax")
    size = (X.shape[1] + 1) * n_outputs * max(4, X.dtype.itemsize)
    fits = size * MOST_BLOCKS <= PARTIAL_BYTES
    rows = bool(X.flags.c_contiguous)
    return kind and rows and fits and n_outputs <= MOST_OUTPUTS and str(X.dtype) in STORAGE
