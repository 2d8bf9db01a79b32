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
              \qquad z = \mathrm{network}(X; \theta), \qquad \sum_i s_i = 1

    The biases are not penalised.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Rows, on the backend's device.
    Y : array (n_samples, ...)
        Targets as `Loss.encode_target` gives them, on the backend's device.
    weights : array (n_samples,)
        s, of sum one, on the backend's device.
    loss : Loss
        Point-wise loss.
    network : Network
        Maps X to raw predictions.
    alpha : float
        Strength of the penalty on the mean loss, alpha = 1 / (C sum(sample_weight)).
    backend : Backend
        Holds the arrays, cuts the rows into blocks and runs them.
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
    ) -> None:
        self.X, self.Y, self.weights = X, Y, weights
        self.loss, self.network, self.backend = loss, network, backend
        self.penalty = backend.asarray(alpha * network.is_weight(), dtype=X.dtype)

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
            In the dtype of X.
        """
        xp = self.backend.xp

        def block(rows: slice) -> tuple[Array, Array]:
            s = self.weights[rows]
            raw_prediction, backprop = self.network.forward(params, self.X[rows, :], xp=xp)
            loss, residual = self.loss.loss_gradient(self.Y[rows, :], raw_prediction, xp=xp)
            return xp.sum(loss * s, dtype=xp.float64), backprop(residual * s[:, None])

        values, gradients = zip(*self.backend.map_blocks(block, self.X), strict=True)
        shrink = self.penalty * params
        value = sum(values) + 0.5 * xp.sum(shrink * params, dtype=xp.float64)
        return value, sum(gradients) + shrink
