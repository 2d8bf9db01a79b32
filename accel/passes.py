"""Passes over rows as the formulas stand: forward, loss, backward, and the penalty.

Data flows from X to raw predictions, losses and residuals, and back to the gradient of the
parameters. A backend may take up the whole of it for a linear model, or the sums over a block of
rows; what it computes is what stands here, which is its oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.backends.interchange import in_dtype, is_sparse

if TYPE_CHECKING:
    from accel.network import Network

Array = Any


def converted(X: Array, dtype: Any, shift: Array | None, *, xp: Any) -> Array:
    """Rows of a dense or sparse X in this dtype, less the shift; X itself where it is that."""
    X = in_dtype(X, dtype) if is_sparse(X) else xp.astype(X, dtype, copy=False)
    return X if shift is None else X - shift


class FormulaPass:
    """Value and gradient of some rows as the formulas stand; see `accel.backends.linear_model`.

    Parameters
    ----------
    loss : PointLoss
        Point-wise loss.
    network : Network
        Maps rows to raw predictions.
    dtype : dtype
        Of the arithmetic.
    scale : array (n_params,) or None
        Factor of the parameters; None for one.
    shift : array (n_in,) or None
        What is taken from every row of X, in dtype; None for zero.
    row_bytes : int
        Bytes that a row takes on its way through the network and back.
    xp : module
        Array namespace.
    """

    def __init__(
        self,
        loss: Any,
        network: Network,
        dtype: Any,
        scale: Array | None,
        shift: Array | None,
        row_bytes: int,
        xp: Any,
    ) -> None:
        self._loss, self._network, self.dtype, self.scale = loss, network, dtype, scale
        self.shift = shift
        self._row_bytes, self._xp, self.n_params = row_bytes, xp, network.n_params

    def on_host(self, to_numpy: Callable[[Array], Any]) -> FormulaPass:
        """The same in float64 NumPy: what others are held against."""
        scale, shift = (
            None if array is None else to_numpy(array) for array in (self.scale, self.shift)
        )
        return FormulaPass(self._loss, self._network, np.float64, scale, shift, self._row_bytes, np)

    def row_bytes(self, X: Array) -> int:  # noqa: ARG002
        """As given."""
        return self._row_bytes

    def __call__(
        self, params: Array, X: Array, Y: Array, s: Array, ridge: Array | None
    ) -> tuple[Array, Array]:
        """Value and gradient in params."""
        scaled = params if self.scale is None else params * self.scale
        value, gradient = self._of(scaled, X, Y, s)
        if self.scale is not None:
            gradient = gradient * self.scale
        return with_ridge(value, gradient, params, ridge, xp=self._xp)

    def curvature(self, params: Array, X: Array) -> Array:
        """What `Loss.curvature` tells of every row."""
        scaled = params if self.scale is None else params * self.scale
        xp, X = self._xp, self._rows(X)
        return self._loss.curvature(self._network.forward(scaled, X, xp=xp)[0], xp=xp)

    def _rows(self, X: Array) -> Array:
        """Rows of X, in the dtype of the arithmetic, less the shift."""
        return converted(X, self.dtype, self.shift, xp=self._xp)

    def _of(self, scaled: Array, X: Array, Y: Array, s: Array) -> tuple[Array, Array]:
        """Without the penalty, and in the scaled parameters."""
        xp, X = self._xp, self._rows(X)
        raw_prediction, backprop = self._network.forward(scaled, X, xp=xp)
        loss, residual = self._loss.loss_gradient(Y, raw_prediction, xp=xp)
        return xp.sum(loss * s, dtype=xp.float64), backprop(residual * s[:, None])


class BlockPass(FormulaPass):
    """Value and gradient of a linear model by a fused function of the backend, block by block.

    Parameters
    ----------
    formula : FormulaPass
        What is fused.
    fused : callable
        (X, Y, s, W, b) -> value, gradient in W, gradient in b.
    """

    def __init__(self, formula: FormulaPass, fused: Callable[..., Any]) -> None:
        vars(self).update(vars(formula))
        self._fused = fused

    def _of(self, scaled: Array, X: Array, Y: Array, s: Array) -> tuple[Array, Array]:
        ((W, b),) = self._network.layers(scaled, xp=self._xp)
        value, g_W, g_b = self._fused(X, Y, s, W, b)
        return value, g_W if b is None else self._xp.concat([g_W, g_b])


def with_ridge(
    value: Array, gradient: Array, params: Array, ridge: Array | None, *, xp: Any
) -> tuple[Array, Array]:
    r"""Value and gradient with :math:`\tfrac12 \sum_j \rho_j \theta_j^2` added.

    Parameters
    ----------
    value : 0-d array of float64
        Without it.
    gradient, params : array (n_params,)
        Likewise, and where.
    ridge : array (n_params,) or None
        Strength for each parameter; None for zero.
    xp : module
        Array namespace.

    Returns
    -------
    value : 0-d array of float64
        With it.
    gradient : array (n_params,)
        With it.
    """
    if ridge is None:
        return value, gradient
    shrink = ridge * params
    return value + 0.5 * xp.sum(shrink * params, dtype=xp.float64), gradient + shrink


def part_of(array: Array, rows: slice) -> Array:
    """Rows of an array; the array itself where these are all."""
    return array if rows.stop - rows.start == array.shape[0] else array[rows, ...]
