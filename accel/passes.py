"""Passes over rows as the formulas stand: forward, loss, backward, and the penalty.

Data flows from X to raw predictions, losses and residuals, and back to the gradient of the
parameters. A backend may take up the whole of it for a linear model, or the sums over a block of
rows; what it computes is what stands here, which is its oracle in the tests.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.backends.base import first_line
from accel.backends.interchange import in_dtype, is_sparse

if TYPE_CHECKING:
    from accel.backends import Backend
    from accel.backends.linear_model import LinearPass
    from accel.network import Network

Array = Any
CHECKED_ROWS = 37
LARGEST_ERROR = 1e-3  # of a kernel's gradient: float32 is at 1e-6, what is wrong is at 1e-1
_PROVEN: dict[tuple[str, str], bool] = {}


def converted(X: Array, dtype: Any, *, xp: Any) -> Array:
    """Rows of a dense or sparse X in this dtype; X itself where it is."""
    return in_dtype(X, dtype) if is_sparse(X) else xp.astype(X, dtype, copy=False)


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
    row_bytes : int
        Bytes that a row takes on its way through the network and back.
    xp : module
        Array namespace.
    """

    def __init__(
        self, loss: Any, network: Network, dtype: Any, scale: Array | None, row_bytes: int, xp: Any
    ) -> None:
        self._loss, self._network, self.dtype, self.scale = loss, network, dtype, scale
        self._row_bytes, self._xp, self.n_params = row_bytes, xp, network.n_params

    def on_host(self, to_numpy: Callable[[Array], Any]) -> FormulaPass:
        """The same in float64 NumPy: what others are held against."""
        scale = None if self.scale is None else to_numpy(self.scale)
        return FormulaPass(self._loss, self._network, np.float64, scale, self._row_bytes, np)

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
        xp, X = self._xp, converted(X, self.dtype, xp=self._xp)
        return self._loss.curvature(self._network.forward(scaled, X, xp=xp)[0], xp=xp)

    def _of(self, scaled: Array, X: Array, Y: Array, s: Array) -> tuple[Array, Array]:
        """Without the penalty, and in the scaled parameters."""
        xp, X = self._xp, converted(X, self.dtype, xp=self._xp)
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


def is_right(one: LinearPass, formula: FormulaPass, X: Array, Y: Array, backend: Backend) -> bool:
    """Whether a backend's pass gives what the formula gives, on the first rows of X.

    A kernel that has never run on such a device is proven at its first use in a process, as the
    device itself was; where it is wrong or does not run, that is said aloud and the formula runs.

    Parameters
    ----------
    one : LinearPass
        To be proven.
    formula : FormulaPass
        What it computes.
    X, Y : array (n, n_in), (n, 1 or n_out)
        Rows and targets on the device.
    backend : Backend
        Of the device.

    Returns
    -------
    bool
        Known from before where the same kernel was proven before.
    """
    key = (backend.name, one.kernel_of(X))
    if key not in _PROVEN:
        try:
            error = _error_of(one, formula, X, Y, backend)
            what = f"is off by {error:.1g}" if not error <= LARGEST_ERROR else ""
        except Exception as refusal:
            if backend.is_out_of_memory(refusal):
                raise
            what = f"does not run ({first_line(refusal)})"
        if what:
            warnings.warn(
                f"accel's kernel {one.kernel_of(X)} {what} on {backend.name}: the formulas run "
                "instead, more slowly. Please report it with the output of accel backends.",
                RuntimeWarning,
                stacklevel=2,
            )
        _PROVEN[key] = not what
    return _PROVEN[key]


def _error_of(one: LinearPass, formula: FormulaPass, X: Array, Y: Array, backend: Backend) -> float:
    """Relative error of the gradient on the first rows, where raw predictions are about one."""
    rows = slice(0, min(CHECKED_ROWS, X.shape[0]))
    few, targets = backend.to_numpy(X[rows, :]).astype(np.float64), backend.to_numpy(Y[rows, ...])
    oracle = formula.on_host(backend.to_numpy)
    shape = np.sin(np.arange(1.0, oracle.n_params + 1))
    factor = 1.0 if formula.scale is None else np.abs(backend.to_numpy(formula.scale)).max()
    size = factor * np.sqrt(np.sum(few * few, axis=1)).max()
    params = shape / size if size > 0 else shape
    dtype = formula.dtype
    s = np.full(len(few), 1 / len(few))
    got = one(
        backend.asarray(params, dtype=dtype), X[rows, :], Y[rows, ...],
        backend.asarray(s, dtype=dtype), None,
    )[1]  # fmt: skip
    _, wanted = oracle(params, few, targets, s, None)
    missed = np.linalg.norm(backend.to_numpy(got) - wanted)
    return float(missed / max(np.linalg.norm(wanted), np.finfo(np.float32).tiny))


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
