"""A linear model with fewer rows than columns, in as many coordinates as rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from accel.backends.base import row_blocks
from accel.backends.interchange import is_sparse
from accel.objective import Objective

Array = Any

# A pass is limited by the bandwidth of the memory that holds X, the Gram matrix by the rate of
# matrix products: bytes read in the time of one floating point operation. 20 GB/s against 80
# GFLOP/s on the CPU it was measured on; GPUs have less, which makes the choice more cautious.
BYTES_PER_FLOP = 0.25
# Smallest pivot of the Cholesky factor against its largest row. Q loses orthogonality with the
# square of the condition number, of which this is a cheap estimate, not a bound; the certificate is
# taken on X itself, so a poor Q costs iterations and never truth.
SMALLEST_PIVOT = 1e-3
COLUMN_BLOCK_BYTES = 8 << 20


class RowSpace:
    r"""A linear model with fewer rows than columns, in as many coordinates as rows.

    With :math:`X X^\top = L L^\top` (Cholesky) and :math:`Q = X^\top L^{-\top}`, the columns of Q
    are orthonormal and :math:`X = L Q^\top`. Every gradient lies in the span of Q, so

    .. math:: W = W_0 + Q (V - V_0), \qquad V_0 = Q^\top W_0, \qquad X W = L V

    and a method that combines gradients with inner products (gradient descent, L-BFGS) makes the
    same iterates in V, where a pass costs n^2 instead of n d.

    Parameters
    ----------
    objective : Objective
        Of a linear model; alpha is zero or the start is.
    start : array (n_params,)
        Where the solver starts, in the user's coordinates.
    factor : array (n, n)
        L, float64, on the device.
    """

    def __init__(self, objective: Objective, start: Array, factor: Array) -> None:
        xp, network = objective.backend.xp, objective.network
        self.full, self.backend, self.factor = objective, objective.backend, factor
        self._start = start
        self._n_weights = network.n_in * network.n_out
        X = xp.astype(factor, start.dtype)
        self.reduced = Objective(
            X if objective.input_scale == 1 else X * objective.input_scale,
            objective.Y,
            objective.weights,
            loss=objective.loss,
            network=replace(network, n_in=X.shape[0]),
            alpha=objective.alpha,
            backend=objective.backend,
        )
        W = xp.reshape(start[: self._n_weights], (network.n_in, network.n_out))
        objective.passes["way into the row space"] += 1
        XW = sum(X @ W[columns, :] for columns, X in self._columns())
        V = xp.linalg.solve(factor, xp.astype(XW, factor.dtype))
        self.start = self._join(xp.astype(V, start.dtype), start)
        self.value_and_grad = self.reduced.value_and_grad
        self.quadratic = self.reduced.quadratic

    @property
    def effort(self) -> tuple[int, int]:
        """Reads of X itself so far, and their bytes."""
        return self.full.effort

    def error(self, params: Array, gradient: Array) -> Array:  # noqa: ARG002
        """A lower bound of max|gradient|, |g|_2 / sqrt(d): the exact one costs a pass."""
        xp = self.backend.xp
        wide = xp.astype(gradient, xp.float64)  # the square of a large float32 overflows
        return xp.sqrt(wide @ wide / self.full.network.n_params)

    def certify(
        self,
        params: Array,
        value: Array,  # noqa: ARG002
        gradient: Array,  # noqa: ARG002
        mean: Array | None = None,  # noqa: ARG002  of columns that are not those of X
    ) -> tuple[Array, Array, Array]:
        """As `Objective.certify`, by one pass over X itself at the expanded params.

        Q g_V would be cheaper, but L is X rounded: in float32 that shows in the certificate.
        """
        xp = self.backend.xp
        full = self.full.in_float64()
        W = xp.astype(self._leave(params), xp.float64)
        return full.certify(W, *full.value_and_grad(W))

    def expand(self, params: Array) -> Array:
        """The user's coordinates: W = W_0 + Q (V - V_0)."""
        return self.full.expand(self._leave(params))

    def _leave(self, params: Array) -> Array:
        """The coordinates of the full problem."""
        return self._start + self._lift(params, self.start)

    def gap(self, params: Array, value: Array, gradient: Array) -> Array:
        """The duality gap, of the reduced problem."""
        return self.reduced.gap(params, value, gradient)

    @property
    def l1(self) -> None:
        """None: the row space is that of l2."""
        return

    @property
    def is_convex(self) -> bool:
        """True: it is a linear model."""
        return True

    @property
    def alpha(self) -> float:
        """Strength of the penalty."""
        return self.full.alpha

    def _lift(self, params: Array, origin: Array) -> Array:
        """Q (V - V_0) and b - b_0 as a change of the user's parameters."""
        xp, network = self.backend.xp, self.full.network
        change = params - origin
        V = xp.reshape(change[: self.factor.shape[0] * network.n_out], (-1, network.n_out))
        a = xp.linalg.solve(self.factor.T, xp.astype(V, self.factor.dtype))
        W = xp.concat([xp.astype(X, a.dtype).T @ a for _, X in self._columns()])
        self.full.passes["way back from the row space"] += 1
        return self._join(xp.astype(W, params.dtype), change)

    def _join(self, W: Array, params: Array) -> Array:
        """W by rows, then the biases at the end of params."""
        xp, network = self.backend.xp, self.full.network
        biases = params[params.shape[0] - network.n_out * network.bias :]
        return xp.concat([xp.reshape(W, (-1,)), biases])

    def _columns(self) -> Iterator[tuple[slice, Array]]:
        return _column_blocks(self.full, self._start.dtype)


def row_space(objective: Objective, start: Array, n_passes: int) -> RowSpace | None:
    r"""The objective in the row space of X, where that is exact and pays.

    It pays where the passes saved cost more than the Gram matrix:

    .. math:: p\, (1 - n/d)\, n d\, B > 2 n^2 d \cdot \beta

    with p passes, B bytes an element and the machine balance :math:`\beta` in bytes per operation.

    Parameters
    ----------
    objective : Objective
        Of any network.
    start : array (n_params,)
        Where the solver starts.
    n_passes : int
        Passes the solver is expected to make.

    Returns
    -------
    RowSpace or None
        None where it would not pay or X is too close to having dependent rows.
    """
    n, d = objective.X.shape
    network, xp = objective.network, objective.backend.xp
    if (
        network.hidden
        or objective.l1 is not None
        or is_sparse(objective.X)
        or objective.sample is not objective
        or n >= d
        or n_passes * (1 - n / d) * _itemsize(start) <= 2 * n * BYTES_PER_FLOP
    ):
        return None
    (largest,) = objective.backend.scalars(xp.max(xp.abs(start[: d * network.n_out])))
    if objective.alpha > 0 and largest > 0:
        return None  # the part of the start outside the row space would shrink step by step
    blocks = _column_blocks(objective, xp.float64)
    objective.passes["Gram matrix"] += 1
    gram = sum(X @ X.T for _, X in blocks)
    try:
        factor = xp.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        return None
    pivots = xp.sqrt(xp.abs(xp.linalg.diagonal(gram)))
    diagonal = xp.linalg.diagonal(factor)
    smallest, largest = objective.backend.scalars(xp.min(diagonal), xp.max(pivots))
    if not smallest > SMALLEST_PIVOT * largest:  # CuPy gives NaN where NumPy raises
        return None
    return RowSpace(objective, start, factor)


def _column_blocks(objective: Objective, dtype: Any) -> Iterator[tuple[slice, Array]]:
    """Column blocks of X in this dtype, so that compact storage is never expanded whole."""
    X, shift, xp = objective.X, objective.shift, objective.backend.xp
    for columns in row_blocks(X.shape[1], 8 * X.shape[0], COLUMN_BLOCK_BYTES):
        block = xp.astype(X[:, columns], dtype, copy=False)
        yield columns, block if shift is None else block - xp.astype(shift[columns], dtype)


def _itemsize(array: Array) -> int:
    return 8 if "64" in str(array.dtype) else 4
