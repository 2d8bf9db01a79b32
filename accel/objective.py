"""The objective: one function of the parameters, forward and backward, summed over row blocks."""

from __future__ import annotations

from collections import Counter
from copy import copy
from functools import reduce
from typing import TYPE_CHECKING, Any

from accel.backends.interchange import bytes_of, is_sparse
from accel.backends.linear_model import LinearModel, LinearPass
from accel.cluster import is_distributed
from accel.passes import BlockPass, FormulaPass, converted, part_of, with_ridge
from accel.penalties import minimum_norm_subgradient
from accel.proofs import is_right
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

    Attributes
    ----------
    passes : Counter
        Reads of X so far, by what they were for.

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
        l1: float = 0.0,
        sample: Objective | None = None,
        dtype: Any = None,
    ) -> None:
        self.X, self.Y, self.weights = X, Y, weights
        self.dtype = dtype if weights is None else weights.dtype
        self.network, self.backend = network, backend
        self.loss: Any = loss
        self.alpha, self.input_scale = alpha, input_scale
        self.penalty = backend.asarray(network.penalty(alpha), dtype=self.dtype)
        self.l1 = backend.asarray(network.penalty(l1), dtype=self.dtype) if l1 else None
        self.scale: Any = 1.0
        if input_scale != 1.0:
            self.scale = backend.asarray(network.input_scale(input_scale), dtype=self.dtype)
        self._sample = sample
        self.passes: Counter[str] = Counter()
        self._purpose = "value and gradient"
        self._pass = self._best_pass()

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
        value, gradient = reduce(_added, self._sums(params))
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
        one = self._pass
        if not isinstance(one, FormulaPass) and not self._is_right("curvature", one):
            one = self._formula()
        parts = list(self.map_rows(lambda X, rows: one.curvature(params, X)))  # noqa: ARG005
        return parts[0] if len(parts) == 1 else self.backend.xp.concat(parts)

    def second_order(self, curvature: Array, sample: Objective | None = None) -> Objective:
        """The quadratic with these curvatures in the place of the labels, and that of a sample."""
        model = copy(self)
        model.Y, model.l1, model.loss = curvature, None, self.loss.quadratic
        model._sample = sample
        model._purpose = "Hessian product"
        model._pass = model._best_pass()
        return model

    def map_rows(
        self, function: Callable[[Array, slice], Any], row_bytes: int | None = None
    ) -> Iterator[Any]:
        """function(X, rows) of consecutive blocks of X, in order, wherever its rows lie.

        Parameters
        ----------
        function : callable
            X is rows of X in their storage dtype, on the device; the result holds no view of it.
        row_bytes : int, optional
            Bytes that a row takes on its way; those of a pass where not given.

        Yields
        ------
        object
            Its results.
        """
        if row_bytes is None:  # a stream has its blocks already
            row_bytes = 0 if is_streamed(self.X) else self._pass.row_bytes(self.X)
        return map_rows(self.X, function, row_bytes, self.backend)

    def __getstate__(self) -> dict[str, Any]:
        """Workers of a cluster hand objectives on: without the pass, which is found again."""
        return {**vars(self), "_pass": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._pass = self._best_pass()

    def __sizeof__(self) -> int:
        """What it holds on the device: dask places and spills by it."""
        held = [part for part in (self.Y, self.weights) if part is not None]
        rows = 0 if hasattr(self.X, "map") else bytes_of(self.X)
        return rows + sum(bytes_of(part) for part in held)

    @property
    def sample(self) -> Objective:
        """The problem over rows that are on the device; itself where all are."""
        return self if self._sample is None else self._sample

    def with_alpha(self, alpha: float) -> Objective:
        """The same problem with another penalty."""
        other = copy(self)
        other.alpha = alpha
        penalty = self.network.penalty(alpha)
        other.penalty = self.backend.asarray(penalty, dtype=self.dtype)
        return other

    def with_smaller_blocks(self) -> Objective:
        """The same problem, computed in blocks of a quarter."""
        other = copy(self)
        other.backend = self.backend.with_smaller_blocks()
        if is_streamed(self.X):
            other.X = self.X.with_smaller_blocks(other.backend)
        other._pass = other._best_pass()
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
        """Rows of X, without its factor, in the dtype of the weights."""
        return converted(X, self.dtype, xp=self.backend.xp)

    def error(self, params: Array, gradient: Array) -> Array:
        """max|gradient|, 0-d, on the device: what the tolerance is compared with.

        With an l1 penalty, the largest component of the subgradient of least norm.
        """
        xp = self.backend.xp
        if self.l1 is not None:
            gradient = minimum_norm_subgradient(params, gradient, self.l1, xp=xp)
        return xp.max(xp.abs(gradient))

    def certify(self, params: Array, gradient: Array) -> Array:
        """The same in the user's coordinates, in float64 whatever the dtype: what a fit claims."""
        if self.dtype == self.backend.xp.float64:
            return self.error(params, gradient)
        return self.exact_error(params)

    def exact_error(self, params: Array) -> Array:
        """`error` at params, by a pass of its own in float64."""
        exact, params = self.in_float64(), self.backend.xp.astype(params, self.backend.xp.float64)
        return exact.error(params, exact.value_and_grad(params)[1])

    def expand(self, params: Array) -> Array:
        """Params in the user's coordinates; these are."""
        return params

    def in_float64(self) -> Objective:
        """The same problem over the same X in float64 arithmetic; itself where it is one."""
        xp = self.backend.xp
        if self.dtype == xp.float64:
            return self
        exact = copy(self)
        exact.dtype = xp.float64
        if is_distributed(self.X):
            exact.X = self.X.in_float64()
        else:
            exact.weights = xp.astype(self.weights, xp.float64)
            if xp.isdtype(self.Y.dtype, "real floating"):  # curvatures: as wide as the arithmetic
                exact.Y = xp.astype(self.Y, xp.float64)
        exact.penalty = xp.astype(self.penalty, xp.float64)
        exact.l1 = None if self.l1 is None else xp.astype(self.l1, xp.float64)
        exact.scale = 1.0 if self.input_scale == 1 else xp.astype(self.scale, xp.float64)
        exact._purpose = "certificate"
        exact._pass = exact._best_pass()
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

    def _best_pass(self) -> Any:
        """The pass of the backend for a linear model, where there is one; else the formula's.

        None where X is distributed: its workers find their own, and an objective that holds what
        it has no use for is freed late.
        """
        if is_distributed(self.X):
            return None
        formula = self._formula()
        if self.network.hidden or is_sparse(self.X):
            return formula
        network, real = self.network, "float64" if self._is_double else "float32"
        model = LinearModel(self.loss.name, network.n_in, network.n_out, network.bias, real)
        factor = None
        if formula.scale is not None:
            factor = formula.scale[: network.n_in * network.n_out : network.n_out]
        whole = self.backend.linear_pass(model, self.X, factor)
        if whole is not None and self._is_right("gradient", whole):
            return whole
        if self._is_double != str(self.X.dtype).endswith("float64"):
            return formula  # the fused blocks compute in the dtype that X implies
        fused = self.backend.block_pass(self.loss.name, self.X, network.n_out)
        return formula if fused is None else BlockPass(formula, fused)

    def _formula(self) -> FormulaPass:
        """The pass as the formulas stand."""
        scale = None if self.input_scale == 1 else self.scale
        row_bytes = self.row_bytes(self.network)
        xp = self.backend.xp
        return FormulaPass(self.loss, self.network, self.dtype, scale, row_bytes, xp)

    def _is_right(self, what: str, one: LinearPass) -> bool:
        """Whether a pass is proven, on rows that are on the device; none may be, in a stream."""
        known = self.sample
        if is_streamed(known.X):
            return True
        return is_right(what, one, self._formula(), known.X, known.Y, self.backend)

    @property
    def _is_double(self) -> bool:
        return bool(self.dtype == self.backend.xp.float64)


def _added(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
    """Two pairs of value and gradient, added."""
    return one[0] + two[0], one[1] + two[1]
