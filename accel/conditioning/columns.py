"""A look at the columns of X: their means, spreads and sizes, from some of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.backends.interchange import is_sparse, like_csr, take_rows
from accel.objective import Objective
from accel.proofs import checked_rows, proven, relative

if TYPE_CHECKING:
    from accel.backends import Backend

Array = Any

# Rows that are looked at to learn about the columns: any mean and any scale are exact, so a sample
# is enough, and it keeps the look below the cost of a pass.
LOOK_ROWS = 4096
LOOK_BYTES = 8 << 20
ROUNDING = 1e-12  # of a column about its mean in float64, relative to its largest entry
ABSENT = 1e-12  # weight of rows that store no element of a column: below, rounding of one minus one


@dataclass(frozen=True)
class Columns:
    """What a look at some rows tells about the columns of c X, on the device, in float64.

    Parameters
    ----------
    mean : array (n_features,)
        Weighted means.
    spread : array (n_features,)
        Root of the weighted mean square about the mean; zero for a constant column.
    largest : array (n_features,)
        Largest magnitude, or one where all are zero: what the rounding of a column goes by.
    """

    mean: Array
    spread: Array
    largest: Array


def look(objective: Objective) -> Columns:
    """Mean and spread of every column, from at most `LOOK_ROWS` rows evenly taken.

    Parameters
    ----------
    objective : Objective
        Of a linear model.

    Returns
    -------
    Columns
        Of CSR from all rows. Finite wherever X is: the spread is taken on columns divided by their
        largest entry, so that no square overflows.
    """
    objective = objective.sample
    xp, X = objective.backend.xp, objective.X
    n, d = X.shape
    weights = xp.astype(objective.weights, xp.float64)
    if is_sparse(X):
        return _look_sparse(X, weights / xp.sum(weights), objective.input_scale, xp)
    n_rows = min(n, LOOK_ROWS, max(1, LOOK_BYTES // (8 * d)))
    rows = slice(0, n, -(-n // n_rows))
    s = weights[rows]
    total = xp.sum(s)
    s = xp.where(total > 0, s / xp.where(total > 0, total, total + 1), xp.ones_like(s) / s.shape[0])
    some, backend, fused = X[rows, :], objective.backend, None
    if objective.shift is None and _are_right(some, backend):
        fused = backend.column_sums(some, s)
    if fused is None:
        exact = take_rows(X, rows, xp.float64, xp=xp)
        if objective.shift is not None:
            exact = exact - xp.astype(objective.shift, xp.float64)
        fused = column_sums(exact, s, xp)
    mean, unit, about = fused
    return _columns(mean, xp.sqrt(about), unit, objective.input_scale, xp)


def _are_right(X: Array, backend: Backend) -> bool:
    """Whether the backend's look at such columns gives what the formula gives."""

    def error() -> float:
        few = X[checked_rows(X), :]
        s = np.full(few.shape[0], 1 / few.shape[0])
        found = backend.column_sums(few, backend.asarray(s))
        if found is None:
            return 0.0
        wanted = column_sums(backend.to_numpy(few).astype(np.float64), s, np)
        return max(
            relative(backend.to_numpy(one), two) for one, two in zip(found, wanted, strict=True)
        )

    steps = getattr(X, "strides", None)
    return proven(f"column sums of {X.dtype} x {X.shape[1]}, strides {steps}", error, backend)


def column_sums(sample: Array, s: Array, xp: Any) -> tuple[Array, Array, Array]:
    """Mean, largest magnitude and mean square about the mean, see `Backend.column_sums`."""
    mean = s @ sample
    unit = _positive(xp.max(xp.abs(sample), axis=0), xp)
    centred = (sample - mean) / unit
    return mean, unit, s @ (centred * centred)


def _look_sparse(X: Array, s: Array, factor: float, xp: Any) -> Columns:
    """The same for CSR, from all its stored elements: most columns are too rare for a sample."""
    where = X.indices
    largest = xp.asarray(abs(X).max(axis=0).toarray(), dtype=xp.float64)
    unit = _positive(xp.reshape(largest, (-1,)), xp)
    data = X.data / unit[where]
    mean = like_csr(X, data).T @ s
    stored = like_csr(X, xp.ones(X.data.shape, dtype=xp.float64)).T @ s
    absent = 1 - stored  # of the weight; rounding of it is no zero that is not stored
    absent = xp.where(absent > ABSENT, absent, xp.zeros_like(absent))
    about = like_csr(X, (data - mean[where]) ** 2).T @ s
    return _columns(mean * unit, xp.sqrt(about + absent * mean * mean), unit, factor, xp)


def _positive(largest: Array, xp: Any) -> Array:
    """The same with one in the place of zero."""
    return xp.where(largest > 0, largest, xp.ones_like(largest))


def _columns(mean: Array, spread: Array, unit: Array, factor: float, xp: Any) -> Columns:
    """Columns of c X, from a spread in the unit of each; what is left of a constant one is zero."""
    spread = xp.where(spread > ROUNDING, spread, xp.zeros_like(spread))
    return Columns(factor * mean, factor * unit * spread, factor * unit)
