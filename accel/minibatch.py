"""Some rows at a time: batches gathered into the same arrays, and the objective of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.backends.interchange import in_dtype, is_sparse, rows_at, take_rows
from accel.backends.streaming import uploaded
from accel.dropout import DropoutMasks
from accel.network import Workspace

if TYPE_CHECKING:
    from accel.backends import Backend
    from accel.backends.base import StepKernels
    from accel.losses import PointLoss
    from accel.network import Network

Array = Any


@dataclass(frozen=True)
class Batch:
    """Rows on the device, in arrays that the next batch writes over.

    Parameters
    ----------
    X : array (n, n_features)
        In the dtype of the arithmetic, scaled.
    Y : array (n, n_outputs)
        Targets.
    weights : array (n,) or None
        Sample weights; None for one each.
    """

    X: Array
    Y: Array
    weights: Array | None


class Batches:
    """The rows of X and Y in any order, batch after batch.

    Parameters
    ----------
    X : array (n_samples, n_features)
        On the backend's device, or in host memory: then a thread gathers the next batch there, and
        it is copied while the device computes on the present one.
    Y : array (n_samples, n_outputs)
        Targets, on the device.
    weights : array (n_samples,) or None
        Sample weights, on the device; None for one each.
    size : int
        Rows of a batch; the last of an epoch may be shorter.
    dtype : dtype
        Of the arithmetic, float32 or float64.
    backend : Backend
        Computes.
    is_resident : bool
        Whether X is on the device.
    input_scale : float, default=1.0
        Factor of X.

    Attributes
    ----------
    shift : array (n_features,) or None
        Taken from every row, on the device; set it before an epoch.
    """

    def __init__(
        self,
        X: Array,
        Y: Array,
        weights: Array | None,
        *,
        size: int,
        dtype: Any,
        backend: Backend,
        is_resident: bool,
        input_scale: float = 1.0,
    ) -> None:
        self.X, self.Y, self.weights = X, Y, weights
        self.size, self.dtype, self.backend = size, dtype, backend
        self._is_resident, self._input_scale = is_resident, input_scale
        self.shift: Array | None = None
        self._arrays: dict[Any, Array] = {}
        if not is_resident:
            self._link = backend.uploader()
            shape = (size, *X.shape[1:])
            self._host = [self._link.host(shape, X.dtype) for _ in (0, 1)]

    def epoch(self, order: NDArray[np.intp] | None) -> Iterator[Batch]:
        """The rows of an epoch.

        Parameters
        ----------
        order : ndarray of int or None
            Rows in their order, on the host; None for all rows as they lie.

        Yields
        ------
        Batch
            `size` rows, or what is left.
        """
        n = self.X.shape[0] if order is None else len(order)
        cuts = [slice(k, min(k + self.size, n)) for k in range(0, n, self.size)]
        places: Any = None if order is None else self.backend.asarray(order)
        resident = self._is_resident
        X = self._resident_rows(cuts, places) if resident else self._uploaded_rows(cuts, order)
        for cut, rows in zip(cuts, X, strict=True):
            where = cut if places is None else places[cut]
            weights = None if self.weights is None else self._rows_of("weights", where, cut)
            yield Batch(self._converted(rows), self._rows_of("Y", where, cut), weights)

    def mean(self, order: NDArray[np.intp] | None) -> Array:
        """Mean of the columns of some rows, as they come in batches: one pass over them.

        Parameters
        ----------
        order : ndarray of int or None
            Rows, on the host; None for all.

        Returns
        -------
        array (n_features,)
            In the dtype of the arithmetic, on the device.
        """
        xp, total, n = self.backend.xp, 0.0, 0
        for batch in self.epoch(order):
            total = total + xp.sum(batch.X, axis=0, dtype=xp.float64)
            n += batch.X.shape[0]
        return xp.astype(total / n, self.dtype)

    def _resident_rows(self, cuts: list[slice], places: Any) -> Iterator[Array]:
        for cut in cuts:
            yield self._rows_of("X", cut if places is None else places[cut], cut)

    def _rows_of(self, name: str, where: Any, cut: slice) -> Array:
        """Rows of a device array: a view where they lie together, else gathered."""
        source, n = getattr(self, name), cut.stop - cut.start
        if is_sparse(source):
            if isinstance(where, slice):
                return take_rows(source, where, self.dtype, xp=self.backend.xp)
            return rows_at(source, where, xp=self.backend.xp)
        if isinstance(where, slice):
            return source[where, ...]
        out = self._array(name, source.shape[1:], source.dtype)[:n, ...]
        self.backend.gather(source, where, out)
        return out

    def _uploaded_rows(self, cuts: list[slice], order: NDArray[np.intp] | None) -> Iterator[Array]:
        """One batch is gathered and copied while the one before is computed on."""
        X = self.X
        dtype = self.backend.asarray(X[:0, ...]).dtype
        device = [self._array(("device", k), X.shape[1:], dtype) for k in (0, 1)]

        def gather(k: int, out: Array) -> None:
            if order is None:
                out[...] = X[cuts[k], ...]
            else:
                np.take(X, order[cuts[k]], axis=0, out=out, mode="clip")

        return uploaded(cuts, gather, self._host, device, self._link)

    def _converted(self, rows: Array) -> Array:
        """Rows in the dtype of the arithmetic, times the factor of X, less the shift."""
        xp = self.backend.xp
        if is_sparse(rows):
            rows = in_dtype(rows, self.dtype)
            return rows if self._input_scale == 1 else rows * self._input_scale
        is_ready = rows.dtype == self.dtype and self._input_scale == 1
        if is_ready and self.shift is None:
            return rows
        out = self._array("converted", rows.shape[1:], self.dtype)[: rows.shape[0], ...]
        if is_ready:
            xp.subtract(rows, self.shift, out=out)
            return out
        xp.copyto(out, rows)
        if self._input_scale != 1:
            out *= self._input_scale
        if self.shift is not None:
            out -= self.shift
        return out

    def _array(self, name: Any, shape: tuple[int, ...], dtype: Any) -> Array:
        if name not in self._arrays:
            self._arrays[name] = self.backend.xp.empty(
                (self.size, *shape), dtype=dtype, device=self.backend.device
            )
        return self._arrays[name]


class BatchObjective:
    r"""Objective of a batch B and its gradient, in arrays that every step uses again.

    .. math:: f_B(\theta) = \frac{1}{S_B} \sum_{i \in B} s_i\, \ell(y_i, z_i)
                 + \frac{\alpha}{2 S_B} \sum_{W \in \theta} |W|_2^2,
              \qquad S_B = \sum_{i \in B} s_i

    as in scikit-learn's MLPClassifier; with B all rows it is `accel.objective.Objective`.

    Parameters
    ----------
    loss : PointLoss
        Point-wise loss.
    network : Network
        Maps rows to raw predictions.
    alpha : float
        Strength of the penalty of a batch of weight one.
    size : int
        Most rows of a batch.
    like : array (n_params,)
        Its dtype and device are those of the parameters.
    backend : Backend
        Computes.
    precision : str, default="float32"
        Of the products, one of `accel.backends.precision.PRECISIONS`.
    kernels : StepKernels, optional
        Fused losses of the backend.
    dropout : float, default=0.0
        Share of the hidden outputs that are dropped.
    seed : int, default=0
        Of the dropout masks.
    """

    def __init__(
        self,
        *,
        loss: PointLoss,
        network: Network,
        alpha: float,
        size: int,
        like: Array,
        backend: Backend,
        precision: str = "float32",
        kernels: StepKernels | None = None,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        xp = backend.xp
        self.loss, self.network, self.alpha, self.backend = loss, network, alpha, backend
        self._workspace = Workspace(network, size, like, xp=xp, product=backend.product(precision))
        self._gradient = xp.empty_like(like)
        if alpha:
            self._shrink = xp.empty_like(like)
            self._penalty = backend.asarray(network.penalty(alpha), dtype=like.dtype)
        self._equal: dict[int, Array] = {}
        self._fused = kernels.residuals.get(loss.name) if kernels else None
        self._residual = xp.empty((size, network.n_out), dtype=like.dtype, device=like.device)
        self._masks: Callable[[int, int], list[Array]] = lambda step, n_rows: []  # noqa: ARG005
        if dropout:
            masks = DropoutMasks(dropout, network.hidden, size, like, xp=xp)
            self._masks = lambda step, n_rows: masks.draw(seed, step, n_rows)

    def value_and_grad(self, params: Array, batch: Batch, step: int) -> tuple[Array, Array]:
        """Objective and gradient; for dense rows nothing waits for the device.

        Parameters
        ----------
        params : array (n_params,)
            Parameters.
        batch : Batch
            Rows.
        step : int
            Number of the step: what the dropout masks depend on.

        Returns
        -------
        value : 0-d array of float64
            f_B(params), with the masks of this step; its penalty is summed in the dtype of params.
        gradient : array (n_params,)
            Lasts until the next call; may be written over.
        """
        xp, n = self.backend.xp, batch.Y.shape[0]
        raw_prediction, backprop = self.network.forward(
            params, batch.X, xp=xp, workspace=self._workspace, masks=self._masks(step, n)
        )
        share, total = self._shares(batch.weights, n)
        if self._fused is not None:
            value, residual = self._fused(batch.Y, share, raw_prediction), raw_prediction
        else:
            residual = self._residual[:n, :]
            loss, slope = self.loss.loss_gradient(batch.Y, raw_prediction, xp=xp)
            value = xp.sum(loss * share, dtype=xp.float64)
            xp.multiply(slope, share[:, None], out=residual)
        gradient = backprop(residual, out=self._gradient)
        if self.alpha:
            shrink = self._shrink
            xp.multiply(self._penalty, params, out=shrink)
            shrink /= total
            gradient += shrink
            value = value + 0.5 * (shrink @ params)
        return value, gradient

    def _shares(self, weights: Array | None, n_rows: int) -> tuple[Array, Any]:
        """Each row's share of the weight of its batch, and that weight."""
        if weights is not None:
            total = self.backend.xp.sum(weights)
            return weights / total, total
        if n_rows not in self._equal:  # there are two lengths of a batch
            like = self._residual
            ones = self.backend.xp.ones(n_rows, dtype=like.dtype, device=like.device)
            self._equal[n_rows] = ones / n_rows
        return self._equal[n_rows], n_rows
