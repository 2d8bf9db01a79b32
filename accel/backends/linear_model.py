"""A pass of a linear model as a backend may take it up whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

Array = Any


@dataclass(frozen=True)
class LinearModel:
    """A linear model as a pass sees it.

    Parameters
    ----------
    loss : str
        Name of its loss.
    n_in, n_out : int
        Columns of X and of the raw predictions.
    bias : bool
        Whether there are intercepts.
    real : {"float32", "float64"}
        Dtype of the arithmetic.
    """

    loss: str
    n_in: int
    n_out: int
    bias: bool
    real: str

    @property
    def n_params(self) -> int:
        """W (n_in, n_out) by rows, then b (n_out)."""
        return (self.n_in + self.bias) * self.n_out


class LinearPass(Protocol):
    r"""Sums over rows on the device, with the penalty.

    .. math:: \sum_i s_i\, \ell(y_i, z_i) + \tfrac12 \sum_j \rho_j \theta_j^2,
              \qquad z = (x - \mu)\,(c \odot W) + b
    """

    def kernel_of(self, X: Array) -> str:
        """What runs over X, told apart from everything else that may run."""

    def row_bytes(self, X: Array) -> int:
        """Temporary bytes of a row of X on its way."""

    def __call__(
        self, params: Array, X: Array, Y: Array, s: Array, ridge: Array | None
    ) -> tuple[Array, Array]:
        """Value, a 0-d array of float64, and gradient in params (n_params,)."""

    def curvature(self, params: Array, X: Array) -> Array:
        """What `Loss.curvature` tells of every row, (n, n_out)."""
