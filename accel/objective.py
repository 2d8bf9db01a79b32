"""The objective: one function of the parameters, forward and backward, summed over row blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.backends import Backend
    from accel.losses import Loss
    from accel.network import Network

Array = Any


class Objective:
    r"""Weighted mean loss plus the ridge penalty, and its gradient.

    .. math:: f(\theta) = \sum_i s_i\, \ell(y_i, z_i) + \frac{\alpha}{2} \sum_{W \in \theta} |W|^2,
              \qquad z = \mathrm{network}(c X; \theta), \qquad \sum_i s_i = 1

    The biases are not penalised.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Rows, on the backend's device, in any storage dtype: a block of them at a time is
        converted to the dtype of the weights.
    Y : array (n_samples, 1)
        Targets as `Loss.encode_target` gives them, on the backend's device.
    weights : array (n_samples,)
        Sample weights s of sum one, on the backend's device; their dtype, float32 or float64, is
        that of all arithmetic.
    loss : Loss
        Point-wise loss.
    network : Network
        Maps rows to raw predictions.
    alpha : float
        Strength of the penalty on the mean loss, alpha = 1 / (C sum(sample_weight)).
    backend : Backend
        Holds the arrays, cuts the rows into blocks and runs them.
    input_scale : float, default=1.0
        The factor c of X, applied to the first W instead: (c X) W = X (c W).

    Notes
    -----
    One block goes forward and backward before the next: X is read from memory once a pass, where
    two products over the whole X would read it twice.
    """

    def __init__(
        self,
        X: Array,
        Y: Array,
        weights: Array,
        *,
        loss: Loss,
        network: Network,
        alpha: float,
        backend: Backend,
        input_scale: float = 1.0,
    ) -> None:
        self.X, self.Y, self.weights = X, Y, weights
        self.loss, self.network, self.backend = loss, network, backend
        self.alpha, self.input_scale = alpha, input_scale
        self.penalty = backend.asarray(alpha * network.is_weight(), dtype=weights.dtype)
        self.scale = 1.0
        if input_scale != 1.0:
            self.scale = backend.asarray(network.input_scale(input_scale), dtype=weights.dtype)
        self._row_bytes = network.row_elements * (8 if weights.dtype == backend.xp.float64 else 4)
        is_linear = not network.hidden
        fused = backend.linear_pass(loss.name, X, network.n_out) if is_linear else None
        self._block = self._generic if fused is None else self._fused_with(fused)

    def value_and_grad(self, params: Array) -> tuple[Array, Array]:
        """Objective and gradient; both stay on the device.

        Parameters
        ----------
        params : array (n_params,)
            Parameters.

        Returns
        -------
        value : 0-d array of float64
            f(params). Its sums are float64 whatever X is: a line search compares values that
            differ in the last digits.
        gradient : array (n_params,)
            In the dtype of the weights.
        """
        xp, scaled = self.backend.xp, params * self.scale
        shrink = self.penalty * params
        value, gradient = 0.5 * xp.sum(shrink * params, dtype=xp.float64), shrink
        blocks = self.backend.map_blocks(
            lambda rows: self._block(scaled, rows), self.X.shape[0], self._row_bytes
        )
        for block_value, block_gradient in blocks:
            value = value + block_value
            gradient = gradient + block_gradient * self.scale
        return value, gradient

    def error(self, gradient: Array) -> Array:
        """max|gradient|, 0-d, on the device: what the tolerance is compared with."""
        return self.backend.xp.max(self.backend.xp.abs(gradient))

    def certify(self, params: Array, gradient: Array) -> Array:  # noqa: ARG002
        """max|gradient| in the user's coordinates, exactly; these are, and `error` is exact."""
        return self.error(gradient)

    def expand(self, params: Array) -> Array:
        """Params in the user's coordinates; these are."""
        return params

    def _generic(self, params: Array, rows: slice) -> tuple[Array, Array]:
        """Weighted loss of a block of rows and its gradient, for any network and loss."""
        xp, s = self.backend.xp, self.weights[rows]
        X = xp.astype(self.X[rows, :], s.dtype, copy=False)
        raw_prediction, backprop = self.network.forward(params, X, xp=xp)
        loss, residual = self.loss.loss_gradient(self.Y[rows, :], raw_prediction, xp=xp)
        return xp.sum(loss * s, dtype=xp.float64), backprop(residual * s[:, None])

    def _fused_with(self, linear_pass: Any) -> Any:
        """The same for a linear model by a fused pass of the backend."""

        def fused(params: Array, rows: slice) -> tuple[Array, Array]:
            ((W, b),) = self.network.layers(params, xp=self.backend.xp)
            value, g_W, g_b = linear_pass(
                self.X[rows, :], self.Y[rows, :], self.weights[rows], W, b
            )
            return value, g_W if b is None else self.backend.xp.concat([g_W, g_b])

        return fused
