"""Many problems over one X: different weights of the rows and penalties, one read for all."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.backends.interchange import rows_of
from accel.penalties import duality_gap

if TYPE_CHECKING:
    from accel.objective import Objective

Array = Any
# Below this part of the problems left, the rest is worth moving together.
WORTH_MOVING = 0.8


class Stack:
    r"""Problems :math:`b = 1 \dots B` that share X and Y, each with its weights and penalty.

    .. math:: f_b(\theta_b) = \sum_i s_{bi}\, \ell(y_i, z_{bi}) + \frac{\alpha_b}{2} |W_b|^2,
              \qquad [z_1 \dots z_B] = c X [W_1 \dots W_B] + [b_1 \dots b_B]

    The raw predictions of all problems are one product, that of a linear model with B times as many
    outputs: X is read once for all of them.

    Parameters
    ----------
    whole : Objective
        Of a linear model. Its X, Y, loss and network are every problem's; its weights and alpha
        stand for all where one number must (`accel.conditioning.look`).
    weights : array (n_samples, n_weightings)
        Sample weights, each column of sum one, on the device, in the dtype of whole's.
    which : ndarray (n_problems,) of int
        Column of weights of each problem, on the host.
    alphas : ndarray (n_problems,)
        Penalty of each problem, on the host.

    Notes
    -----
    Values are (n_problems,), parameters and gradients (n_problems, n_params), each row as `Network`
    lays it out. A stack of the second-order models has the members of a stack of problems.
    """

    def __init__(
        self, whole: Objective, weights: Array, which: NDArray[np.intp], alphas: NDArray[Any]
    ) -> None:
        backend, self.n_problems = whole.backend, len(which)
        self.whole, self.weights, self.which, self.alphas = whole, weights, which, alphas
        self.X, self.input_scale, self.passes = whole.X, whole.input_scale, whole.passes
        self.network, self.backend, self.loss = whole.network, backend, whole.loss
        penalty = whole.network.penalty(np.asarray(alphas)[:, None])
        self.penalty = backend.asarray(penalty, dtype=weights.dtype)
        self.Y: Array | None = None  # (n_samples, active problems, n_outputs) of a quadratic model
        self._purpose = "value and gradient"
        self._active = np.arange(self.n_problems)

    def value_and_grad(self, params: Array) -> tuple[Array, Array]:
        """Objectives and gradients; those of problems that are left out are not computed.

        Parameters
        ----------
        params : array (n_problems, n_params)
            Parameters.

        Returns
        -------
        values : array (n_problems,) of float64
            f_b; without its first term where problem b is left out.
        gradients : array (n_problems, n_params)
            Likewise.
        """
        xp, wide = self.backend.xp, self._widen(params)
        self.passes[self._purpose] += 1
        blocks = self._map_rows(lambda X, rows: self._block(wide, X, rows))
        value, gradient = next(blocks)
        for block_value, block_gradient in blocks:
            value, gradient = value + block_value, gradient + block_gradient
        shrink = self.penalty * params
        value = self._scatter(value) + 0.5 * xp.sum(shrink * params, axis=1, dtype=xp.float64)
        return value, self._scatter(self._rows_of(gradient)) * self.whole.scale + shrink

    def quadratic(self, params: Array) -> Stack:
        """The second-order models at params, of the problems that are not left out.

        Parameters
        ----------
        params : array (n_problems, n_params)
            Where.

        Returns
        -------
        Stack
            Its gradients are products with the Hessians; see `Objective.quadratic`.
        """
        xp, wide = self.backend.xp, self._widen(params)

        def curvature(X: Array, rows: slice) -> Array:  # noqa: ARG001
            raw_prediction, _ = self._forward(wide, X)
            return self._by_problem(self.loss.curvature(raw_prediction, xp=xp))

        self.passes["curvature"] += 1
        parts = list(self._map_rows(curvature))
        model = copy(self)
        model.Y = parts[0] if len(parts) == 1 else xp.concat(parts)
        model.loss = self.loss.quadratic
        model._purpose = "Hessian product"
        return model

    def take(self, problems: NDArray[np.intp]) -> Stack:
        """A stack of some of the problems, by their places."""
        return Stack(self.whole, self.weights, self.which[problems], self.alphas[problems])

    def only(self, going: NDArray[np.bool_]) -> Stack:
        """The same stack, with no work done for problems that are not going (n_problems,).

        A model's curvature is moved together, so that is done where it saves enough.
        """
        kept = np.flatnonzero(going[self._active])
        if len(kept) == len(self._active) or (
            self.Y is not None and len(kept) > WORTH_MOVING * len(self._active)
        ):
            return self
        fewer = copy(self)
        fewer._active = self._active[kept]
        if self.Y is not None:
            fewer.Y = self.backend.xp.take(self.Y, self.backend.asarray(kept), axis=1)
        return fewer

    def mean_curvature(self, rows: slice) -> tuple[Array, Array]:
        """Weights and mean curvatures of rows in each problem: (n_rows, n_problems), float64."""
        xp = self.backend.xp
        curvature = xp.astype(self._targets(rows), xp.float64)
        h = self._by_problem(self.loss.mean(curvature, xp=xp)[:, None])[:, :, 0]
        return xp.astype(self._weights(rows), xp.float64), h

    def raw_predictions(self, params: Array, rows: slice) -> Array:
        """(n_rows, active problems, n_outputs) raw predictions of rows of X, by one product."""
        return self._by_problem(self._forward(self._widen(params), rows_of(self.X, rows))[0])

    @property
    def shift(self) -> Array | None:
        """What is taken from every row of X."""
        return self.whole.shift

    @property
    def l1(self) -> None:
        """None: a stack is penalised by l2."""
        return

    @property
    def sample(self) -> Stack:
        """Itself: X is on the device whole."""
        return self

    def error(self, params: Array, gradients: Array) -> Array:  # noqa: ARG002
        """max|gradient| of each problem, (n_problems,), on the device."""
        return self.backend.xp.max(self.backend.xp.abs(gradients), axis=1)

    def gap(self, params: Array, values: Array, gradients: Array) -> Array:
        """Duality gap of each problem, (n_problems,), see `duality_gap`."""
        return duality_gap(params, values, gradients, self.penalty, None, xp=self.backend.xp)

    def expand(self, params: Array) -> Array:
        """Params in the user's coordinates."""
        return self.whole.expand(params)

    @property
    def pass_size(self) -> tuple[int, int]:
        """Rows of a pass, and bytes that each of them takes."""
        return self.X.shape[0], self.whole.row_bytes(self._wide)

    @property
    def _wide(self) -> Any:
        """The linear model whose outputs are those of all active problems side by side."""
        return replace(self.network, n_out=len(self._active) * self.network.n_out)

    def _map_rows(self, function: Any) -> Any:
        return iter(self.whole.map_rows(function, self.pass_size[1]))

    def _forward(self, wide: Array, X: Array) -> tuple[Array, Any]:
        """Raw predictions (n_rows * active, n_outputs), and what backpropagates (n_rows, all)."""
        xp = self.backend.xp
        raw_prediction, backprop = self._wide.forward(wide, self.whole.converted(X), xp=xp)
        return xp.reshape(raw_prediction, (-1, self.network.n_out)), backprop

    def _block(self, wide: Array, X: Array, rows: slice) -> tuple[Array, Array]:
        """Weighted losses of a block of rows, (active,), and their gradient in wide."""
        xp, s = self.backend.xp, self._weights(rows)
        raw_prediction, backprop = self._forward(wide, X)
        loss, residual = self.loss.loss_gradient(self._targets(rows), raw_prediction, xp=xp)
        weighted = self._by_problem(residual) * s[:, :, None]
        value = xp.sum(xp.reshape(loss, s.shape) * s, axis=0, dtype=xp.float64)
        return value, backprop(xp.reshape(weighted, (s.shape[0], -1)))

    def _targets(self, rows: slice) -> Array:
        """Y of rows, once for each active problem: (n_rows * active, width of Y)."""
        xp = self.backend.xp
        if self.Y is not None:
            return xp.reshape(self.Y[rows, :, :], (-1, self.Y.shape[2]))
        return xp.repeat(self.whole.Y[rows, :], len(self._active), axis=0)

    def _weights(self, rows: slice) -> Array:
        """(n_rows, active) weights of rows in each active problem."""
        which = self.backend.asarray(self.which[self._active])
        return self.backend.xp.take(self.weights[rows, :], which, axis=1)

    def _by_problem(self, values: Array) -> Array:
        """(n_rows * active, m) as (n_rows, active, m)."""
        shape = (-1, len(self._active), values.shape[1])
        return self.backend.xp.reshape(values, shape)

    def _widen(self, params: Array) -> Array:
        """Parameters of the active problems, X's factor in them, as those of the wide model."""
        xp, network, A = self.backend.xp, self.network, len(self._active)
        taken = xp.take(params, self.backend.asarray(self._active), axis=0) * self.whole.scale
        n_weights = network.n_in * network.n_out
        W = xp.reshape(taken[:, :n_weights], (A, network.n_in, network.n_out))
        W = xp.reshape(xp.permute_dims(W, (1, 0, 2)), (-1,))
        return xp.concat([W, xp.reshape(taken[:, n_weights:], (-1,))])

    def _rows_of(self, wide: Array) -> Array:
        """(active, n_params): the parameters of the wide model, problem by problem."""
        xp, network, A = self.backend.xp, self.network, len(self._active)
        n_weights = network.n_in * network.n_out * A
        W = xp.reshape(wide[:n_weights], (network.n_in, A, network.n_out))
        W = xp.reshape(xp.permute_dims(W, (1, 0, 2)), (A, -1))
        return xp.concat([W, xp.reshape(wide[n_weights:], (A, -1))], axis=1)

    def _scatter(self, values: Array) -> Array:
        """Values of the active problems, (active, ...), as those of all, zero elsewhere."""
        xp = self.backend.xp
        if len(self._active) == self.n_problems:
            return values
        place = np.full(self.n_problems, len(self._active))
        place[self._active] = np.arange(len(self._active))
        padded = xp.concat([values, xp.zeros_like(values[:1, ...])])
        return xp.take(padded, self.backend.asarray(place), axis=0)
