"""Networks: layers of products and activations, parameters in one flat vector.

`forward` returns the raw predictions together with the closure that turns their gradient into
the gradient of the parameters, so what the backward pass needs has one owner. No hidden layer is
the linear model. To add an activation, write a function and add a line to `ACTIVATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
# z -> (a, chain), where chain(gradient in a) is the gradient in z
Activation = Callable[..., tuple[Array, Callable[[Array], Array]]]


def identity(z: Array, *, xp: Any) -> tuple[Array, Callable[[Array], Array]]:  # noqa: ARG001
    """A = z."""
    return z, lambda gradient: gradient


def relu(z: Array, *, xp: Any) -> tuple[Array, Callable[[Array], Array]]:
    """A = max(z, 0); its derivative at 0 is taken as 0, as scikit-learn does."""
    zero = xp.zeros_like(z)
    return xp.maximum(z, zero), lambda gradient: xp.where(z > 0, gradient, zero)


def tanh(z: Array, *, xp: Any) -> tuple[Array, Callable[[Array], Array]]:
    """A = tanh(z), a' = 1 - a^2."""
    a = xp.tanh(z)
    return a, lambda gradient: gradient * (1 - a * a)


def logistic(z: Array, *, xp: Any) -> tuple[Array, Callable[[Array], Array]]:
    """A = 1 / (1 + exp(-z)), a' = a (1 - a); through tanh, which cannot overflow."""
    a = 0.5 + 0.5 * xp.tanh(0.5 * z)
    return a, lambda gradient: gradient * (a * (1 - a))


ACTIVATIONS: dict[str, Activation] = {
    "identity": identity,
    "relu": relu,
    "tanh": tanh,
    "logistic": logistic,
}


@dataclass(frozen=True)
class Network:
    r"""Fully connected layers, :math:`a_{l+1} = f(a_l W_l + b_l)`, the last one without f.

    Parameters
    ----------
    n_in, n_out : int
        Columns of X and of raw_prediction.
    hidden : tuple of int, default=()
        Widths of the hidden layers. Empty: the linear model Z = X W + b.
    activation : str, default="relu"
        Key of `ACTIVATIONS`, used after every layer but the last.
    bias : bool, default=True
        Whether layers have b.

    Notes
    -----
    params is one vector: W (n_in, n_out) by rows, then b, layer after layer.
    """

    n_in: int
    n_out: int
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    bias: bool = True

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shape of each layer's W."""
        return list(pairwise((self.n_in, *self.hidden, self.n_out)))

    @property
    def n_params(self) -> int:
        """Length of params."""
        return sum((rows + self.bias) * columns for rows, columns in self.shapes)

    @property
    def row_elements(self) -> int:
        """Numbers that one row takes on its way forward and back: inputs, outputs, gradients."""
        return self.n_in + 4 * (sum(self.hidden) + self.n_out)

    def is_weight(self) -> NDArray[np.bool_]:
        """True where params is an element of a W, False at a b: what a penalty applies to."""
        parts = [
            np.arange((rows + self.bias) * columns) < rows * columns
            for rows, columns in self.shapes
        ]
        return np.concatenate(parts)

    def penalty(self, alpha: Any) -> NDArray[np.float64]:
        """Strength at the elements of every W, 0 at the biases; of an array (..., 1), (..., n)."""
        return np.where(self.is_weight(), alpha, 0.0)

    def input_scale(self, factor: float) -> NDArray[np.float64]:
        """Factor at the elements of the first W, 1 elsewhere: what scales X by the factor."""
        scale = np.ones(self.n_params)
        rows, columns = self.shapes[0]
        scale[: rows * columns] = factor
        return scale

    def layers(self, params: Array, *, xp: Any) -> Iterator[tuple[Array, Array | None]]:
        """W and b of each layer, as views of params; b is None without bias."""
        start = 0
        for rows, columns in self.shapes:
            end = start + rows * columns
            W = xp.reshape(params[start:end], (rows, columns))
            start = end + self.bias * columns
            yield W, params[end:start] if self.bias else None

    def forward(
        self, params: Array, X: Array, *, xp: Any
    ) -> tuple[Array, Callable[[Array], Array]]:
        """Raw predictions of the rows of X, and the function that backpropagates.

        Parameters
        ----------
        params : array (n_params,)
            Parameters, on the device of X.
        X : array (n_samples, n_in)
            Rows.
        xp : module
            Array namespace of both.

        Returns
        -------
        raw_prediction : array (n_samples, n_out)
            Output of the last layer.
        backprop : callable
            (n_samples, n_out) gradient in raw_prediction -> (n_params,) gradient in params.
        """
        steps: list[tuple[Array, Array, Callable[[Array], Array]]] = []
        z, activation = X, identity
        for W, b in self.layers(params, xp=xp):
            a, chain = activation(z, xp=xp)
            steps.append((a, W, chain))
            z = a @ W if b is None else a @ W + b
            activation = ACTIVATIONS[self.activation]

        def backprop(gradient: Array) -> Array:
            parts = []
            for depth, (a, W, chain) in reversed(list(enumerate(steps))):
                if self.bias:
                    parts.append(xp.sum(gradient, axis=0))
                parts.append(xp.reshape(a.T @ gradient, (-1,)))
                if depth:  # nothing below the first layer wants a gradient
                    gradient = chain(gradient @ W.T)
            return xp.concat(parts[::-1])

        return z, backprop
