"""The pass of a linear model as two products with the whole X, for what no kernel reads once."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.backends.cuda.device import Device
from accel.backends.cuda.source import NULL, function_of, macros_of
from accel.backends.linear_model import LinearModel

Array = Any
THREADS = 256
BLOCKS = 8  # of a processor
POINT_BYTES = 8 * THREADS // 32  # shared memory: a sum of each warp
LANES = ((4, 1), (16, 8))  # outputs up to -> lanes that share a row; a warp beyond


class Products:
    """Raw predictions by cuBLAS, residuals by one kernel, their sums over X by cuBLAS.

    Parameters
    ----------
    cupy : module
        CuPy itself.
    index : int
        Number of the GPU.
    device : Device
        What the GPU has.
    model : LinearModel
        What is computed.
    factor, shift : array of shape (n_in,) or None
        Multiply W, and are taken from every row, on the GPU.
    """

    def __init__(
        self,
        cupy: Any,
        index: int,
        device: Device,
        model: LinearModel,
        factor: Array | None,
        shift: Array | None,
    ) -> None:
        self._cupy, self._index, self._model = cupy, index, model
        self._factor, self._shift = factor, shift
        self._blocks = BLOCKS * device.processors
        self._real = np.dtype(model.real)
        lanes = next((lanes for outputs, lanes in LANES if model.n_out <= outputs), 32)
        self._lanes = lanes
        self._functions: dict[str, Any] = {}

    def row_bytes(self, X: Array) -> int:
        """Raw predictions, and the row itself where it is converted."""
        is_ready = X.dtype == self._real and self._shift is None
        numbers = self._model.n_out + 1 + (0 if is_ready else self._model.n_in)
        return numbers * self._real.itemsize

    def sums(
        self, params: Array, X: Array, Y: Array, s: Array, ridge: Array | None
    ) -> tuple[Array, Array]:
        """What one team has: partial values, and the gradient before factor and penalty."""
        cupy, model = self._cupy, self._model
        X = self._converted(X)
        Z = self._raw(params, X)
        partial_value = cupy.empty(self._blocks, np.float64)
        self._points("GRADIENT", Z, Y, s, params, ridge, partial_value)
        partial = cupy.empty((model.n_in + 1, model.n_out), dtype=self._real)
        cupy.matmul(X.T, Z, out=partial[: model.n_in])
        # column sums as a product: cuBLAS is faster at it than a reduction
        cupy.matmul(cupy.ones((1, Z.shape[0]), dtype=self._real), Z, out=partial[model.n_in :])
        return partial_value, partial

    def curvature(self, params: Array, X: Array) -> Array:
        """What `Loss.curvature` tells of every row, (n, n_out)."""
        Z = self._raw(params, self._converted(X))
        self._points("CURVATURE", Z, NULL, NULL, params, None, NULL)
        return Z

    def _converted(self, X: Array) -> Array:
        if self._shift is None:
            return X.astype(self._real, copy=False)
        own = X.astype(self._real)  # once the memory of X, not twice
        own -= self._shift
        return own

    def _raw(self, params: Array, X: Array) -> Array:
        """X W, without b."""
        model = self._model
        W = params[: model.n_in * model.n_out].reshape(model.n_in, model.n_out)
        return X @ (W if self._factor is None else W * self._factor[:, None])

    def _points(
        self, what: str, Z: Array, Y: Any, s: Any, params: Array, ridge: Any, partial_value: Any
    ) -> None:
        """Raw predictions become weighted residuals, or curvatures, in their place."""
        model = self._model
        b = params[model.n_in * model.n_out :] if model.bias else NULL
        sizes = np.int64(Z.shape[0]), np.int32(model.n_out), np.int32(model.n_params)
        optional = NULL if ridge is None else ridge
        self._function(what)(
            (self._blocks,),
            (THREADS,),
            (Z, Y, s, b, params, optional, *sizes, partial_value),
            shared_mem=POINT_BYTES,
        )

    def _function(self, what: str) -> Any:
        """The kernel for "GRADIENT" or "CURVATURE", looked up once."""
        if what not in self._functions:
            model = self._model
            macros = {
                **macros_of(None, model.real, model.loss, model.n_out),
                "WHAT": what, "THREADS": THREADS, "POINT_LANES": self._lanes,
            }  # fmt: skip
            files = ("numbers.cuh", "losses.cuh", "points.cu")
            found = function_of(self._cupy, self._index, "points", files, macros)
            self._functions[what] = found
        return self._functions[what]
