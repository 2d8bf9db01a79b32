"""A linear model as if its columns had mean zero and a common scale, X untouched."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

from accel.backends.interchange import in_dtype, is_sparse
from accel.conditioning.columns import ROUNDING, Columns, look
from accel.objective import Objective
from accel.penalties import duality_gap

Array = Any

# Columns are scaled where the diagonal of the Hessian at zero, the intercept's part of it included,
# spans more than the square of this. Below, the penalty has them in hand, and scaling would only
# blow up columns that hardly vary (the border pixels of images): 57 iterations became 318.
UNEVEN = 1e3
TINY = 1e-12  # columns all smaller than this, or all larger than its inverse, are scaled too
# The largest second derivative of a loss in one raw prediction.
CURVATURE = 0.25


class Standardised:
    r"""A linear model in which column j of X is replaced by :math:`(x_j - \mu_j) / \sigma_j`.

    With :math:`W = V / \sigma` and :math:`b = b' - \mu W` the raw predictions are the same,

    .. math:: X W + b = \frac{X - \mu}{\sigma} V + b', \qquad
              g_V = (g_W - \mu^\top g_b) / \sigma, \qquad g_{b'} = g_b

    so any :math:`\mu` and :math:`\sigma` lead to the same minimum, the penalty stays that of W, and
    X itself is not touched. Centring takes away the one large eigenvalue that a common offset of
    the columns gives the Hessian; scaling evens out its diagonal. Without an intercept
    :math:`\mu` is zero.

    Parameters
    ----------
    problem : Objective, RowSpace or Stack
        What is minimised.
    linear : Objective or Stack
        The linear model behind problem, which holds the rows.
    start : array (n_params,), of a stack (n_problems, n_params)
        Start in the coordinates of problem.
    mean : array (n_in,) or None
        :math:`\mu`, in the dtype of start, on the device; None for zero.
    scale : array (n_in,) or None
        :math:`1 / \sigma`, likewise; None for one.
    largest : array (n_in,), optional
        Largest magnitude of each column, float64: what `noise` goes by.
    """

    def __init__(
        self,
        problem: Any,
        linear: Any,
        start: Array,
        mean: Array | None,
        scale: Array | None,
        largest: Array | None = None,
    ) -> None:
        self.problem, self.linear, self.backend = problem, linear, problem.backend
        self.network, self.mean, self.scale = linear.network, mean, scale
        self.largest = largest
        W, b = self._split(start)
        if mean is not None:
            b = b + mean @ W
        self.start = self._join(W if scale is None else W / scale[:, None], b)

    @property
    def penalty(self) -> Array:
        """The ridge of every parameter: that of W, times the square of the scale."""
        return self._spread_scale(self._spread_scale(self.linear.penalty))

    @property
    def l1(self) -> Array | None:
        """The weight of the absolute value of every parameter."""
        return None if self.linear.l1 is None else self._spread_scale(self.linear.l1)

    @property
    def noise(self) -> Array:
        """What rounding leaves of the mean square of each column of `design`, float64."""
        xp = self.backend.xp
        width = self.network.n_in + self.network.bias
        if self.largest is None:
            return xp.zeros(width, dtype=xp.float64, device=self.backend.device)
        scale = 1.0 if self.scale is None else xp.astype(self.scale, xp.float64)
        noise = (ROUNDING * self.largest * scale) ** 2
        return xp.concat([noise, xp.zeros_like(noise[:1])]) if self.network.bias else noise

    @property
    def effort(self) -> tuple[int, int]:
        """Reads of X so far, and their bytes."""
        effort: tuple[int, int] = self.problem.effort
        return effort

    def value_and_grad(self, params: Array) -> tuple[Array, Array]:
        """Objective and gradient in these coordinates."""
        value, gradient = self.problem.value_and_grad(self.leave(params))
        g_W, g_b = self._split(gradient)
        if self.mean is not None:
            g_W = g_W - self.mean[:, None] * g_b[..., None, :]
        if self.scale is not None:
            g_W = g_W * self.scale[:, None]
        return value, self._join(g_W, g_b)

    def quadratic(self, params: Array) -> Standardised:
        """The second-order model at params, in these coordinates."""
        model = copy(self)
        model.problem = self.problem.quadratic(self.leave(params))
        return model

    def take(self, problems: Any) -> Standardised:
        """The same coordinates for some problems of a stack."""
        model = copy(self)
        model.problem = model.linear = self.problem.take(problems)
        return model

    def only(self, going: Any) -> Standardised:
        """The same stack, with no work done for problems that are not going."""
        model = copy(self)
        model.problem = self.problem.only(going)
        return model

    @property
    def alphas(self) -> Any:
        """Penalty of each problem of a stack."""
        return self.problem.alphas

    @property
    def pass_size(self) -> tuple[int, int]:
        """Rows of a pass over a stack, and bytes that each of them takes."""
        size: tuple[int, int] = self.problem.pass_size
        return size

    @property
    def sample(self) -> Standardised:
        """The same coordinates over the rows that are on the device; itself where all are."""
        if self.linear.sample is self.linear:
            return self
        model = copy(self)
        model.problem, model.linear = self.problem.sample, self.linear.sample
        return model

    def design(self, X: Array) -> Array:
        """(X - mu) / sigma, float64, and a column of ones where there is an intercept.

        X is rows of the linear model's, in any storage dtype.
        """
        xp = self.backend.xp
        if is_sparse(X):
            X = in_dtype(X, xp.float64).toarray()
        X = xp.astype(X, xp.float64, copy=False)
        if self.linear.shift is not None:
            X = X - xp.astype(self.linear.shift, xp.float64)
        if self.linear.input_scale != 1:
            X = X * self.linear.input_scale
        if self.mean is not None:
            X = X - self.mean
        if self.scale is not None:
            X = X * self.scale
        return xp.concat([X, xp.ones_like(X[:, :1])], axis=1) if self.network.bias else X

    def error(self, params: Array, gradient: Array) -> Array:
        """max|gradient| of problem, or its lower bound."""
        return self.problem.error(self.leave(params), self.users_gradient(gradient))

    def certify(self, params: Array, value: Array, gradient: Array) -> tuple[Array, Array, Array]:
        """The user's value, max|gradient| and gap, see `Objective.certify`."""
        users = self.users_gradient(gradient)
        found: tuple[Array, Array, Array] = self.problem.certify(
            self.leave(params), value, users, self.mean
        )
        return found

    def gap(self, params: Array, value: Array, gradient: Array) -> Array:
        """The duality gap, of centred columns."""
        return duality_gap(params, value, gradient, self.penalty, self.l1, xp=self.backend.xp)

    @property
    def is_convex(self) -> bool:
        """True: it is a linear model."""
        return True

    @property
    def alpha(self) -> float:
        """Strength of the penalty."""
        alpha: float = self.linear.alpha
        return alpha

    def users_gradient(self, gradient: Array) -> Array:
        """The gradient in the coordinates of problem."""
        g_W, g_b = self._split(gradient)
        if self.scale is not None:
            g_W = g_W / self.scale[:, None]
        if self.mean is not None:
            g_W = g_W + self.mean[:, None] * g_b[..., None, :]
        return self._join(g_W, g_b)

    def expand(self, params: Array) -> Array:
        """The user's coordinates."""
        return self.problem.expand(self.leave(params))

    def leave(self, params: Array) -> Array:
        """The coordinates of problem: W = V / sigma, b = b' - mu W."""
        W, b = self._split(params)
        if self.scale is not None:
            W = W * self.scale[:, None]
        return self._join(W, b if self.mean is None else b - self.mean @ W)

    def _spread_scale(self, values: Array) -> Array:
        """A number for each parameter, times the scale of its column."""
        if self.scale is None:
            return values
        W, b = self._split(values)
        return self._join(W * self.scale[:, None], b)

    def _split(self, params: Array) -> tuple[Array, Array]:
        """W (..., n_in, n_out) and b: of one model, or of each in a stack."""
        n_weights = self.network.n_in * self.network.n_out
        shape = (*params.shape[:-1], self.network.n_in, self.network.n_out)
        W = self.backend.xp.reshape(params[..., :n_weights], shape)
        return W, params[..., n_weights:]

    def _join(self, W: Array, b: Array) -> Array:
        return self.backend.xp.concat([self.backend.xp.reshape(W, (*W.shape[:-2], -1)), b], axis=-1)


@dataclass(frozen=True)
class Coordinates:
    """What `Standardised` needs to know of the columns, on the device.

    Parameters
    ----------
    mean : array (n_in,) or None
        None without intercept.
    scale : array (n_in,) or None
        :math:`1 / sigma`; None where columns are even enough.
    largest : array (n_in,)
        Largest magnitude of each column, float64.
    """

    mean: Array | None
    scale: Array | None
    largest: Array

    def of(self, problem: Any, linear: Any, start: Array) -> Standardised:
        """The problem in these coordinates."""
        return Standardised(problem, linear, start, self.mean, self.scale, self.largest)


def coordinates(linear: Objective, dtype: Any, columns: Columns | None = None) -> Coordinates:
    r"""Mean and scale of the columns: centred where there is an intercept, scaled where uneven.

    Parameters
    ----------
    linear : Objective
        A linear model.
    dtype : dtype
        Of the parameters.
    columns : Columns, optional
        What a look at them told, where there was one.

    Returns
    -------
    Coordinates
        With :math:`\sigma_j^2 = \max(s_j^2 / 4, \alpha)`, the size of the Hessian's diagonal at
        zero, and s the spread of a column, about zero where there is no intercept.
    """
    xp, bias = linear.backend.xp, linear.network.bias
    columns = look(linear) if columns is None else columns
    spread, mean = columns.spread / columns.largest, columns.mean / columns.largest
    about = spread if bias else xp.sqrt(spread * spread + mean * mean)
    # a constant column goes by its size: its gradient is rounding of that size
    about = xp.where(about > 0, about, xp.ones_like(about))
    sigma = CURVATURE**0.5 * columns.largest * about
    ridge = xp.full_like(sigma, linear.alpha**0.5)
    sigma = xp.where(sigma > ridge, sigma, ridge)
    extremes = list(linear.backend.scalars(xp.min(sigma), xp.max(sigma)))
    if bias:
        extremes.append(CURVATURE**0.5)
    is_scaled = max(extremes) > UNEVEN * min(extremes) or not TINY < max(extremes) < 1 / TINY
    return Coordinates(
        xp.astype(columns.mean, dtype) if bias else None,
        xp.astype(1 / sigma, dtype) if is_scaled else None,
        columns.largest,
    )
