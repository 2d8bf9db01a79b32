"""The objective: one function of the parameters, forward and backward, summed over row blocks."""

from __future__ import annotations

from collections import Counter
from copy import copy
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from accel.backends.interchange import bytes_of, is_sparse
from accel.backends.linear_model import LinearPass
from accel.choice import best_pass, curvature_pass
from accel.cluster import is_distributed
from accel.passes import converted, part_of, with_ridge
from accel.penalties import duality_gap, minimum_norm_subgradient
from accel.rows import is_streamed, map_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from accel.backends import Backend
    from accel.losses import Loss
    from accel.network import Network

Array = Any


class Objective:
    r"""Weighted mean loss plus the penalties, and its gradient.

    .. math:: f(\theta) = \sum_i s_i\, \ell(y_i, z_i)
                 + \sum_{W \in \theta} \left( \frac{\alpha}{2} |W|_2^2 + \lambda |W|_1 \right),
              \qquad z = \mathrm{network}(c X; \theta), \qquad \sum_i s_i = 1

    The biases are not penalised.

    Parameters
    ----------
    X : array, Streamed or Distributed (n_samples, n_features)
        Rows in any storage dtype, on the backend's device or brought there block by block: a block
        of them at a time is converted to the dtype of the arithmetic. Or on the workers of a
        cluster, each of which has an objective of its own over its rows.
    Y : array (n_samples, 1) or None
        Targets as `Loss.encode_target` gives them, on the backend's device; None where X is
        distributed, whose workers hold them.
    weights : array (n_samples,) or None
        Sample weights s of sum one, on the backend's device, likewise; their dtype, float32 or
        float64, is that of all arithmetic.
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
    l1 : float, default=0.0
        Strength lambda of the l1 penalty.
    sample : Objective, optional
        The same problem over some of the rows, on the device: what is looked at to learn about the
        columns and the curvature. Itself where X is on the device whole.
    dtype : dtype, optional
        Of all arithmetic; that of the weights where they are given.
    exact_weights : callable, optional
        () -> the weights in float64, on the host: what `in_float64` computes with.

    Attributes
    ----------
    passes : Counter
        Reads of X so far, by what they were for.
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
        l1: float = 0.0,
        sample: Objective | None = None,
        dtype: Any = None,
        exact_weights: Callable[[], Any] | None = None,
    ) -> None:
        self.X, self.Y, self.weights = X, Y, weights
        self.dtype = dtype if weights is None else weights.dtype
        self.network, self.backend = network, backend
        self.loss: Any = loss
        self.alpha, self.input_scale, self._lambda = alpha, input_scale, l1
        self.shift: Array | None = None
        self.penalty = backend.asarray(network.penalty(alpha), dtype=self.dtype)
        self.l1 = backend.asarray(network.penalty(l1), dtype=self.dtype) if l1 else None
        self.scale: Any = 1.0
        if input_scale != 1.0:
            self.scale = backend.asarray(network.input_scale(input_scale), dtype=self.dtype)
        self._sample, self._exact_weights = sample, exact_weights
        self.passes: Counter[str] = Counter()
        self._purpose = "value and gradient"
        self._pass = best_pass(self)

    @property
    def effort(self) -> tuple[int, int]:
        """Reads of X so far, and their bytes."""
        n_passes = sum(self.passes.values())
        return n_passes, n_passes * bytes_of(self.X)

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
            Of its smooth part, without the l1 penalty; in the dtype of the weights.
        """
        self.passes[self._purpose] += 1
        xp = self.backend.xp
        value, gradient = (reduce(add, parts) for parts in zip(*self._sums(params), strict=True))
        if self.l1 is not None:
            value = value + xp.sum(self.l1 * xp.abs(params), dtype=xp.float64)
        return value, gradient

    def quadratic(self, params: Array) -> Objective:
        r"""The second-order model at params of a linear model's objective.

        Parameters
        ----------
        params : array (n_params,)
            Where.

        Returns
        -------
        Objective
            q(v) = v' H v / 2 with H the Hessian at params: a product H v is its gradient and runs
            through the same pass, with the curvature of each sample in the place of its label.
        """
        self.passes["curvature"] += 1
        sample = None if self._sample is None else self._sample.quadratic(params)
        if is_distributed(self.X):
            model = self.second_order(None, sample)
            model.X = self.X.quadratic(self.backend.to_numpy(params * self.scale))
            return model
        return self.second_order(self.curvature(params), sample)

    def curvature(self, params: Array) -> Array:
        """Curvature of every row at params."""
        one = curvature_pass(self, self._pass)
        parts = list(self.map_rows(lambda X, rows: one.curvature(params, X)))  # noqa: ARG005
        return parts[0] if len(parts) == 1 else self.backend.xp.concat(parts)

    def second_order(self, curvature: Array, sample: Objective | None = None) -> Objective:
        """The quadratic with these curvatures in the place of the labels, and that of a sample."""
        model = copy(self)
        model.Y, model.l1, model.loss = curvature, None, self.loss.quadratic
        model._sample = sample
        model._purpose = "Hessian product"
        model._pass = best_pass(model)
        return model

    def map_rows(
        self, function: Callable[[Array, slice], Any], row_bytes: int | None = None
    ) -> Iterator[Any]:
        """function(X, rows) of consecutive blocks of X, in order, wherever its rows lie.

        Parameters
        ----------
        function : callable
            Takes rows as they are stored, on the device; its result holds no view of them.
        row_bytes : int, optional
            Bytes that a row takes on its way; those of a pass where not given.
        """
        if row_bytes is None:  # a stream has its blocks already
            row_bytes = 0 if is_streamed(self.X) else self._pass.row_bytes(self.X)
        return map_rows(self.X, function, row_bytes, self.backend)

    def __getstate__(self) -> dict[str, Any]:
        """Workers of a cluster hand objectives on: without the pass, which is found again."""
        return {**vars(self), "_pass": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._pass = best_pass(self)

    def __sizeof__(self) -> int:
        """What it holds on the device: dask places and spills by it."""
        held = [part for part in (self.Y, self.weights) if part is not None]
        rows = 0 if hasattr(self.X, "map") else bytes_of(self.X)
        return rows + sum(bytes_of(part) for part in held)

    @property
    def sample(self) -> Objective:
        """The problem over rows that are on the device; itself where all are."""
        return self if self._sample is None else self._sample

    def penalised(self, alpha: float, l1: float = 0.0) -> Objective:
        """The same problem with other penalties."""
        other = copy(self)
        other.alpha, other._lambda = alpha, l1
        strengths = self.network.penalty
        other.penalty = self.backend.asarray(strengths(alpha), dtype=self.dtype)
        other.l1 = self.backend.asarray(strengths(l1), dtype=self.dtype) if l1 else None
        return other

    def weighing(self, weights: Array) -> Objective:
        """The same rows with other weights, of sum one, on the device, in its dtype."""
        other = copy(self)
        other.weights, other._exact_weights = weights, None
        return other

    def with_smaller_blocks(self) -> Objective:
        """The same problem, computed in blocks of a quarter."""
        other = copy(self)
        other.backend = self.backend.with_smaller_blocks()
        if is_streamed(self.X):
            other.X = self.X.with_smaller_blocks(other.backend)
        other._pass = best_pass(other)
        return other

    def mean_curvature(self, rows: slice) -> tuple[Array, Array]:
        """Weights and mean curvatures of rows, for a quadratic model: (n_rows, 1), float64."""
        xp = self.backend.xp
        h = self.loss.mean(xp.astype(self.Y[rows, :], xp.float64), xp=xp)
        return xp.astype(self.weights[rows], xp.float64)[:, None], h[:, None]

    def row_bytes(self, network: Network) -> int:
        """Bytes that a row of X takes on its way through a network and back."""
        X = self.X
        stored = 2 * X.nnz // X.shape[0] + 1 if is_sparse(X) else network.n_in
        elements = network.row_elements - network.n_in + stored
        return elements * (8 if self.dtype == self.backend.xp.float64 else 4)

    def converted(self, X: Array) -> Array:
        """Rows of X, less the shift, without its factor, in the dtype of the arithmetic."""
        return converted(X, self.dtype, self.shift, xp=self.backend.xp)

    def error(self, params: Array, gradient: Array) -> Array:
        """max|gradient|, 0-d, on the device: what the tolerance is compared with.

        With an l1 penalty, the largest component of the subgradient of least norm; with a shift,
        of the user's coordinates.
        """
        xp = self.backend.xp
        if self.shift is not None:
            W, b = self._split(gradient)
            gradient = self._join(W + (self.input_scale * self.shift)[:, None] * b, b)
        if self.l1 is not None:
            gradient = minimum_norm_subgradient(params, gradient, self.l1, xp=xp)
        return xp.max(xp.abs(gradient))

    def certify(
        self, params: Array, value: Array, gradient: Array, mean: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """What a fit claims: in the user's coordinates, in float64 whatever the dtype.

        Parameters
        ----------
        params, value, gradient : array
            Where, and what `value_and_grad` gave there: taken for exact in float64 only.
        mean : array (n_in,), optional
            Of the columns of c X: the tightest bound is that of centred ones.

        Returns
        -------
        tuple of 0-d array of float64
            Value, `error`, and the duality gap: the most by which the value can still fall.
        """
        xp = self.backend.xp
        if self.dtype != xp.float64:
            params = xp.astype(params, xp.float64)
            exact = self.in_float64()
            return exact.certify(params, *exact.value_and_grad(params), mean)
        centred = gradient
        if mean is not None:
            W, b = self._split(gradient)
            centred = self._join(W - xp.astype(mean, xp.float64)[:, None] * b, b)
        return value, self.error(params, gradient), self.gap(params, value, centred)

    def gap(self, params: Array, value: Array, gradient: Array) -> Array:
        """The duality gap in these coordinates and this arithmetic, see `duality_gap`."""
        return duality_gap(params, value, gradient, self.penalty, self.l1, xp=self.backend.xp)

    def expand(self, params: Array) -> Array:
        """Params in the user's coordinates: b less what the shift made of it, float64 then."""
        if self.shift is None:
            return params
        return self._moved(params, -1.0)

    def enter(self, params: Array) -> Array:
        """From the user's coordinates, what `expand` is the way back from."""
        return params if self.shift is None else self._moved(params, 1.0)

    def _moved(self, params: Array, sign: float) -> Array:
        """Params (..., n_params) in float64, the shift times W added to b, or taken from it."""
        xp, n_in, n_out = self.backend.xp, self.network.n_in, self.network.n_out
        params = xp.astype(params, xp.float64)
        W = xp.reshape(params[..., : n_in * n_out], (*params.shape[:-1], n_in, n_out))
        change = (sign * self.input_scale) * (xp.astype(self.shift, xp.float64) @ W)
        b = params[..., n_in * n_out :] + change
        return xp.concat([params[..., : n_in * n_out], b], axis=-1)

    def _split(self, params: Array) -> tuple[Array, Array]:
        """W (n_in, n_out) and b (n_out,) of a linear model with an intercept."""
        (layer,) = self.network.layers(params, xp=self.backend.xp)
        return layer

    def _join(self, W: Array, b: Array) -> Array:
        return self.backend.xp.concat([self.backend.xp.reshape(W, (-1,)), b])

    def shifted(self, shift: Array) -> Objective:
        """The same problem, with a number taken from each column before anything else.

        Where columns are far from zero beside their spread, z = x W + b loses in rounding what
        (x - shift) W + b' keeps. The minimum is the same; `expand` gives the user's b.

        Parameters
        ----------
        shift : array (n_in,)
            Numbers that the dtype of X holds, so that the difference is exact; with an intercept,
            of a dense X in this process.

        Returns
        -------
        Objective
            With b' in the place of b.
        """
        other = copy(self)
        other.shift = self.backend.xp.astype(shift, self.dtype)
        other._sample = None if self._sample is None else self._sample.shifted(shift)
        other._pass = best_pass(other)
        return other

    @property
    def is_convex(self) -> bool:
        """Whether it is that of a linear model."""
        return not self.network.hidden

    def in_float64(self, purpose: str = "certificate") -> Objective:
        """The same problem over the same X in float64 arithmetic; itself where it is one.

        Its passes are counted under `purpose`.
        """
        xp = self.backend.xp
        if self.dtype == xp.float64:
            return self
        exact = copy(self)
        exact.dtype = xp.float64
        if is_distributed(self.X):
            exact.X = self.X.in_float64()
        else:
            given = self._exact_weights
            weights = self.weights if given is None else self.backend.asarray(given())
            exact.weights = xp.astype(weights, xp.float64)
            if xp.isdtype(self.Y.dtype, "real floating"):  # curvatures: as wide as the arithmetic
                exact.Y = xp.astype(self.Y, xp.float64)
        as_given = self.network.penalty  # not what float32 left of the strengths
        exact.penalty = self.backend.asarray(as_given(self.alpha), dtype=xp.float64)
        if self.l1 is not None:
            exact.l1 = self.backend.asarray(as_given(self._lambda), dtype=xp.float64)
        exact.shift = None if self.shift is None else xp.astype(self.shift, xp.float64)
        exact.scale = 1.0 if self.input_scale == 1 else xp.astype(self.scale, xp.float64)
        exact._sample = None if self._sample is None else self._sample.in_float64(purpose)
        exact._purpose = purpose
        exact._pass = best_pass(exact)
        return exact

    def _sums(self, params: Array) -> Iterable[tuple[Array, Array]]:
        """Sums of the weighted loss and of its gradient over parts of the rows, in their order.

        The first of them has the penalty in it.
        """
        if is_distributed(self.X):
            scaled = self.backend.to_numpy(params * self.scale)
            value, gradient = self.X.value_and_grad(scaled)
            sums = value, self.backend.asarray(gradient) * self.scale
            return [with_ridge(*sums, params, self.penalty, xp=self.backend.xp)]
        one: LinearPass = self._pass

        def of_rows(X: Array, rows: slice) -> tuple[Array, Array]:
            ridge = self.penalty if rows.start == 0 else None
            return one(params, X, part_of(self.Y, rows), part_of(self.weights, rows), ridge)

        return self.map_rows(of_rows)
