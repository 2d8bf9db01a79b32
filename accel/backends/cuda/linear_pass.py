"""The pass of a linear model on an NVIDIA GPU: which kernel, on how many blocks, with what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from accel.backends.cuda.device import device_of, load_bytes_of, pitch_of
from accel.backends.cuda.layout import pass_layout
from accel.backends.cuda.products import Products
from accel.backends.cuda.reduction import Reduction
from accel.backends.cuda.rows_layout import RowsLayout
from accel.backends.cuda.source import NULL, STORAGE, function_of, macros_of, target_dtype
from accel.backends.cuda.tiles_layout import TilesLayout
from accel.backends.linear_model import LinearModel

Array = Any


class Kernel(NamedTuple):
    """A kernel in a layout, ready to be launched.

    Parameters
    ----------
    launch : callable
        (blocks, arguments).
    layout : RowsLayout or TilesLayout
        How many blocks, for so many rows.
    cluster : int
        Blocks that share rows.
    """

    launch: Callable[[int, tuple[Any, ...]], None]
    layout: RowsLayout | TilesLayout
    cluster: int


class CudaPass:
    """Sums over the rows of X, read once where they can be; see `LinearPass`.

    Parameters
    ----------
    cupy : module
        CuPy.
    index : int
        Of the GPU, which is the current one in every call.
    model : LinearModel
        What is summed.
    factor : array (n_in,) or None
        c, on the GPU, in the dtype of the arithmetic; None for one.
    shift : array (n_in,) or None
        mu, likewise; None for zero.
    n_bytes : int, default=0
        Of the whole X: what does not stay in the L2 cache is read past it.
    """

    def __init__(
        self,
        cupy: Any,
        index: int,
        model: LinearModel,
        factor: Array | None = None,
        shift: Array | None = None,
        *,
        n_bytes: int = 0,
    ) -> None:
        self._cupy, self._index, self._model = cupy, index, model
        self._real = np.dtype(model.real)
        self._target = target_dtype(model.loss, model.real)
        self._factor, self._shift = (
            None if array is None else self._ready(array, self._real) for array in (factor, shift)
        )
        self._device = device_of(cupy, index)
        self._is_large = n_bytes > self._device.l2_bytes
        self._products = Products(cupy, index, self._device, model, self._factor, self._shift)
        self._reduce = Reduction(cupy, index, model.real, model.n_out)
        self._layouts: dict[Any, RowsLayout | TilesLayout | None] = {}
        self._kernels: dict[Any, Kernel] = {}

    def kernel_of(self, X: Array) -> str:
        """The kernel, its layout and what it computes."""
        layout, model = self._layout(X) or "two products", self._model
        shape = f"{X.dtype} x {model.n_in} x {model.n_out}, {model.loss} in {model.real}"
        more = [
            word
            for word, holds in (("shifted", self._shift is not None), ("past L2", self._is_large))
            if holds
        ]
        return ", ".join([f"{layout} for {shape}", *more])

    def row_bytes(self, X: Array) -> int:
        """Temporary bytes of a row: none where a kernel reads X once."""
        return self._products.row_bytes(X) if self._layout(X) is None else 0

    def __call__(
        self, params: Array, X: Array, Y: Array, s: Array, ridge: Array | None
    ) -> tuple[Array, Array]:
        """Value and gradient; two launches where X is read once.

        Parameters
        ----------
        params : array (n_params,)
            W by rows, then b.
        X : array (n, n_in)
            Rows, in a storage dtype; a view, if the elements of a row lie side by side.
        Y : array (n, 1) or (n, n_out)
            Targets as `Loss.loss_gradient` takes them.
        s : array (n,)
            Weights.
        ridge : array (n_params,) or None
            rho; None for zero.

        Returns
        -------
        value : 0-d array of float64
            The sum.
        gradient : array (n_params,)
            In params.
        """
        cupy, model, kernel = self._cupy, self._model, self._kernel("GRADIENT", X)
        params, s = self._ready(params, self._real), self._ready(s, self._real)
        Y = self._ready(Y, self._target)
        if kernel is None:
            partial_value, partial = self._products.sums(params, X, Y, s, ridge)
            return self._added(partial_value, partial.reshape(1, -1), params, ridge)
        blocks = kernel.layout.grid(X.shape[0], self._device)
        teams = blocks // kernel.cluster
        partial_value = cupy.empty(blocks, dtype=np.float64)
        partial = cupy.empty((teams, (model.n_in + 1) * model.n_out), dtype=self._real)
        results = partial_value, partial, NULL
        kernel.launch(blocks, (X, Y, s, params, *self._constants(X, ridge), *results))
        return self._added(partial_value, partial, params, ridge)

    def curvature(self, params: Array, X: Array) -> Array:
        """What `Loss.curvature` tells of every row, (n, n_out); one launch.

        Parameters
        ----------
        params : array (n_params,)
            W by rows, then b.
        X : array (n, n_in)
            Rows.

        Returns
        -------
        array (n, n_out)
            In the dtype of the arithmetic.
        """
        kernel, params = self._kernel("CURVATURE", X), self._ready(params, self._real)
        if kernel is None:
            return self._products.curvature(params, X)
        out = self._cupy.empty((X.shape[0], self._model.n_out), dtype=self._real)
        blocks = kernel.layout.grid(X.shape[0], self._device)
        results = NULL, NULL, out
        kernel.launch(blocks, (X, NULL, NULL, params, *self._constants(X, None), *results))
        return out

    def _constants(self, X: Array, ridge: Array | None) -> tuple[Any, ...]:
        """The arguments from factor to has_bias."""
        optional = (self._factor, self._shift, ridge)
        pointers = (NULL if array is None else array for array in optional)
        n, d = X.shape
        sizes = np.int64(n), np.int64(pitch_of(X) or 0), np.int32(d), np.int32(self._model.bias)
        return (*pointers, *sizes)

    def _added(
        self, partial_value: Array, partial: Array, params: Array, ridge: Array | None
    ) -> tuple[Array, Array]:
        """The sums of all teams, and the penalty's part of the gradient."""
        cupy, model = self._cupy, self._model
        value, gradient = cupy.empty((), np.float64), cupy.empty(model.n_params, self._real)
        factor, ridge = (NULL if array is None else array for array in (self._factor, ridge))
        numbers = model.n_in, int(model.bias)
        self._reduce(partial_value, partial, numbers, (params, factor, ridge), value, gradient)
        return value, gradient

    def _ready(self, array: Array, dtype: Any) -> Array:
        """An array as a kernel reads it by its address: this dtype, elements side by side."""
        if array.dtype == dtype and array.flags.c_contiguous:
            return array
        return self._cupy.ascontiguousarray(array, dtype=dtype)

    def _layout(self, X: Array) -> RowsLayout | TilesLayout | None:
        """The layout for X as it lies; None for two products."""
        itemsize, model, pitch = X.dtype.itemsize, self._model, pitch_of(X)
        if pitch is None:
            return None
        load_bytes = load_bytes_of(itemsize, model.n_in, pitch, X.data.ptr)
        key = (str(X.dtype), load_bytes)
        if key not in self._layouts:
            self._layouts[key] = pass_layout(
                key[0], model.real, model.n_in, model.n_out, load_bytes, self._device,
                is_shifted=self._shift is not None,
            )  # fmt: skip
        return self._layouts[key]

    def _kernel(self, what: str, X: Array) -> Kernel | None:
        """The kernel for X as it lies, looked up once; None for two products."""
        layout = self._layout(X)
        if layout is None:
            return None
        key = what, str(X.dtype), layout
        if key not in self._kernels:
            self._kernels[key] = self._built(*key)
        return self._kernels[key]

    def _built(self, what: str, dtype: str, layout: RowsLayout | TilesLayout) -> Kernel:
        model = self._model
        macros = {
            **macros_of(dtype, model.real, model.loss, model.n_out), **layout.macros, "WHAT": what,
        }  # fmt: skip
        if isinstance(layout, RowsLayout):
            macros |= {"SHIFT": int(self._shift is not None), "STREAMS": int(self._is_large)}
        shared = layout.shared_bytes(STORAGE[dtype][2], model.n_out, self._real.itemsize)
        files = ("numbers.cuh", "losses.cuh", f"{layout.name}.cu")
        name = f"linear_{layout.name}"
        function = function_of(self._cupy, self._index, name, files, macros, shared)

        def launch(blocks: int, arguments: tuple[Any, ...]) -> None:
            function((blocks,), (layout.threads,), arguments, shared_mem=shared)

        return Kernel(launch, layout, layout.cluster)
