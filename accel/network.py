"""Networks: layers of products and activations, parameters in one flat vector.

`forward` returns the raw predictions together with the closure that turns their gradient into
the gradient of the parameters, so what the backward pass needs has one owner. No hidden layer is
the linear model. To add an activation, write two functions and add a line to `ACTIVATIONS`.

Everything is written into buffers given to it (``out=``), so that a training step can use those of
the step before. `xp` is therefore a namespace whose functions take ``out=``: NumPy, CuPy, or what
`accel.backends.interchange.with_out` makes of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import pi, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.backends.interchange import is_sparse

Array = Any
Product = Callable[[Array, Array, Array], Any]  # (a, b, out): out = a b
GELU = (sqrt(2 / pi), 0.044715)


class Activation(NamedTuple):
    """A function f of every element, and its chain rule.

    Parameters
    ----------
    value : callable
        (z, out, *, xp): out = f(z).
    chain : callable
        (z, a, gradient, *, xp): gradient *= f'(z), where a = f(z); z and a are used up.
    """

    value: Callable[..., None]
    chain: Callable[..., None]


def _identity(z: Array, out: Array, *, xp: Any) -> None:  # noqa: ARG001
    """A = z."""
    out[...] = z


def _identity_chain(z: Array, a: Array, gradient: Array, *, xp: Any) -> None:
    """A' = 1."""


def _relu(z: Array, out: Array, *, xp: Any) -> None:
    """A = max(z, 0)."""
    xp.maximum(z, 0.0, out=out)


def _relu_chain(z: Array, a: Array, gradient: Array, *, xp: Any) -> None:
    """A' = 1 where a > 0; 0 at 0, as scikit-learn takes it."""
    xp.greater(a, 0.0, out=z)
    gradient *= z


def _tanh(z: Array, out: Array, *, xp: Any) -> None:
    """A = tanh(z)."""
    xp.tanh(z, out=out)


def _tanh_chain(z: Array, a: Array, gradient: Array, *, xp: Any) -> None:
    """A' = 1 - a^2."""
    xp.multiply(a, a, out=z)
    xp.subtract(1.0, z, out=z)
    gradient *= z


def _logistic(z: Array, out: Array, *, xp: Any) -> None:
    """A = 1 / (1 + exp(-z)) = (1 + tanh(z/2)) / 2, which cannot overflow."""
    xp.multiply(z, 0.5, out=out)
    xp.tanh(out, out=out)
    out *= 0.5
    out += 0.5


def _logistic_chain(z: Array, a: Array, gradient: Array, *, xp: Any) -> None:
    """A' = a (1 - a)."""
    xp.subtract(1.0, a, out=z)
    z *= a
    gradient *= z


def _gelu(z: Array, out: Array, *, xp: Any) -> None:
    """A = z h(z), h = (1 + tanh(c (z + k z^3))) / 2; c = sqrt(2/pi), k = 0.044715.

    Hendrycks & Gimpel, Gaussian Error Linear Units (2016), section 2: their approximation of
    z Phi(z), at most 5e-4 away from it.
    """
    _gelu_share(z, out, xp=xp)
    out *= z


def _gelu_chain(z: Array, a: Array, gradient: Array, *, xp: Any) -> None:
    """A' = h (1 + 2 (1 - h) s), s = c (z + 3 k z^3)."""
    c, k = GELU
    h, s = a, z
    _gelu_share(z, h, xp=xp)
    gradient *= h
    xp.subtract(1.0, h, out=h)  # 1 - h
    h *= z  # (1 - h) z
    s *= z
    s *= 3 * k
    s += 1.0
    s *= h
    s *= 2 * c
    s += 1.0
    gradient *= s


def _gelu_share(z: Array, out: Array, *, xp: Any) -> None:
    """The share h of z that passes."""
    c, k = GELU
    xp.multiply(z, z, out=out)
    out *= k
    out += 1.0
    out *= z
    out *= c
    xp.tanh(out, out=out)
    out *= 0.5
    out += 0.5


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(_identity, _identity_chain),
    "relu": Activation(_relu, _relu_chain),
    "tanh": Activation(_tanh, _tanh_chain),
    "logistic": Activation(_logistic, _logistic_chain),
    "gelu": Activation(_gelu, _gelu_chain),
}
# name -> half width of the uniform distribution of the first parameters of a layer
INITIALISATIONS: dict[str, Callable[[int, int, str], float]] = {
    # Glorot & Bengio, AISTATS 2010, equation 16; scikit-learn's choice for the logistic activation
    "glorot": lambda fan_in, fan_out, activation: sqrt(
        (2 if activation == "logistic" else 6) / (fan_in + fan_out)
    ),
    # He et al., ICCV 2015, equation 10: variance 2 / fan_in
    "he": lambda fan_in, fan_out, activation: sqrt(6 / fan_in),  # noqa: ARG005
}


class Workspace:
    """The arrays of one pass through a network: each is made once and used again.

    Parameters
    ----------
    network : Network
        Whose layers pass through it.
    n_rows : int
        Most rows of a pass; fewer use the beginning of each array.
    like : array
        Its dtype and device are those of the arrays.
    xp : module
        Array namespace.
    product : callable, optional
        (a, b, out): out = a b; for another precision than that of the dtype.
    """

    def __init__(
        self,
        network: Network,
        n_rows: int,
        like: Array,
        *,
        xp: Any,
        product: Product | None = None,
    ) -> None:
        self.xp, self._n_rows, self._like = xp, n_rows, like
        self.product = product or self._plain_product
        self._widths = (*network.hidden, network.n_out)
        self._arrays: dict[tuple[str, int], Array] = {}
        self._ones: Array | None = None

    def array(self, name: str, layer: int, n_rows: int) -> Array:
        """The (n_rows, width) array of this name and layer; it still holds the last pass."""
        whole = self._arrays.get((name, layer))
        if whole is None:
            shape = (self._n_rows, self._widths[layer])
            whole = self.xp.empty(shape, dtype=self._like.dtype, device=self._like.device)
            self._arrays[name, layer] = whole
        return whole if n_rows == self._n_rows else whole[:n_rows, :]

    def ones(self, n_rows: int) -> Array:
        """A (1, n_rows) array of ones: sums of columns are a product, twice as fast."""
        if self._ones is None:
            like = self._like
            self._ones = self.xp.ones((1, self._n_rows), dtype=like.dtype, device=like.device)
        return self._ones[:, :n_rows]

    def _plain_product(self, a: Array, b: Array, out: Array) -> None:
        if is_sparse(a):
            out[...] = a @ b
        else:
            self.xp.matmul(a, b, out=out)


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

    @property
    def largest_W(self) -> int:
        """Elements of the largest W: a row takes twice as many operations to pass it."""
        return max(rows * columns for rows, columns in self.shapes)

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

    def moved(self, params: Array, shift: Array, *, xp: Any) -> Array:
        """Parameters that do to X what these do to X - shift: the first b takes the shift up.

        Parameters
        ----------
        params : array (n_params,)
            Parameters; not modified.
        shift : array (n_in,)
            Of the columns of X.
        xp : module
            Array namespace of both, whose functions take ``out=``.

        Returns
        -------
        array (n_params,)
            New.
        """
        result = xp.asarray(params, copy=True)
        W, b = next(self.layers(result, xp=xp))
        b -= shift @ W
        return result

    def layers(self, params: Array, *, xp: Any) -> Iterator[tuple[Array, Array | None]]:
        """W and b of each layer, as views of params; b is None without bias."""
        start = 0
        for rows, columns in self.shapes:
            end = start + rows * columns
            W = xp.reshape(params[start:end], (rows, columns))
            start = end + self.bias * columns
            yield W, params[end:start] if self.bias else None

    def initial(self, scheme: str, random_state: Any, dtype: Any) -> NDArray[Any]:
        """First parameters, drawn on the host, W then b of each layer, as scikit-learn does.

        Parameters
        ----------
        scheme : str
            Key of `INITIALISATIONS`: uniform in an interval that depends on the layer.
        random_state : numpy.random.RandomState
            Source; it moves on.
        dtype : dtype
            float32 or float64; the draws are the same.

        Returns
        -------
        ndarray (n_params,)
            On the host.
        """
        parts = []
        for rows, columns in self.shapes:
            bound = INITIALISATIONS[scheme](rows, columns, self.activation)
            parts.append(random_state.uniform(-bound, bound, (rows, columns)).reshape(-1))
            b = random_state.uniform(-bound, bound, columns)
            parts.append(b if self.bias else b[:0])
        return np.concatenate(parts).astype(dtype)

    def forward(
        self,
        params: Array,
        X: Array,
        *,
        xp: Any,
        workspace: Workspace | None = None,
        masks: Sequence[Array] = (),
    ) -> tuple[Array, Callable[..., Array]]:
        """Raw predictions of the rows of X, and the function that backpropagates.

        Parameters
        ----------
        params : array (n_params,)
            Parameters, on the device of X.
        X : array (n_samples, n_in)
            Rows.
        xp : module
            Array namespace of both, whose functions take ``out=``.
        workspace : Workspace, optional
            Arrays to write into; new ones where not given.
        masks : sequence of array (n_samples, width), optional
            Factor of the output of each hidden layer; none means one.

        Returns
        -------
        raw_prediction : array (n_samples, n_out)
            Output of the last layer; of the workspace.
        backprop : callable
            (gradient in raw_prediction (n_samples, n_out), out=None) -> gradient in params
            (n_params,), written to `out` if given. Once a forward pass: it uses up the workspace.
        """
        n = X.shape[0]
        at = workspace or Workspace(self, n, params, xp=xp)
        f = ACTIVATIONS[self.activation]
        inputs = [X]
        for depth, (W, b) in enumerate(self.layers(params, xp=xp)):
            z = at.array("z", depth, n)
            at.product(inputs[-1], W, z)
            if b is not None:
                z += b
            if depth < len(self.hidden):
                a = at.array("a", depth, n)
                f.value(z, a, xp=xp)
                if masks:
                    xp.multiply(a, masks[depth], out=at.array("masked", depth, n))
                inputs.append(at.array("masked", depth, n) if masks else a)

        def backprop(gradient: Array, out: Array | None = None) -> Array:
            out = xp.empty_like(params) if out is None else out
            layers = zip(self.layers(params, xp=xp), self.layers(out, xp=xp), strict=True)
            for depth, ((W, _), (g_W, g_b)) in reversed(list(enumerate(layers))):
                at.product(inputs[depth].T, gradient, g_W)
                if g_b is not None:
                    xp.matmul(at.ones(n), gradient, out=xp.reshape(g_b, (1, -1)))
                if depth:  # nothing below the first layer wants a gradient
                    below = at.array("gradient", depth - 1, n)
                    at.product(gradient, W.T, below)
                    if masks:
                        below *= masks[depth - 1]
                    z, a = at.array("z", depth - 1, n), at.array("a", depth - 1, n)
                    f.chain(z, a, below, xp=xp)
                    gradient = below
            return out

        return z, backprop
