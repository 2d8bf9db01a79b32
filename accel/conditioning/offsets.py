"""Columns far from zero: in which arithmetic, and less which numbers, a linear model is solved."""

from __future__ import annotations

from typing import Any

from accel.backends.interchange import is_sparse
from accel.cluster import is_distributed
from accel.conditioning.columns import Columns
from accel.objective import Objective

Array = Any
# |mean| / spread of a column from which on the rounding of x W + b shows: float32 keeps 7 digits,
# of which the tolerance needs 4; float64 16, and the steps of Newton's method 10.
FAR = {"float32": 1e3, "float64": 1e6}
ALL = 1e-9  # where no column varies beyond rounding, |mean| / largest is one: far in any dtype


def farthest(columns: Columns, xp: Any) -> Array:
    """Largest |mean| over the spread of its column; of a constant one, over the largest spread.

    Parameters
    ----------
    columns : Columns
        What a look told.
    xp : module
        Array namespace.

    Returns
    -------
    0-d array of float64
        Zero where no column varies.
    """
    widest = xp.max(columns.spread)
    spread = xp.where(columns.spread > 0, columns.spread, widest)
    ratio = xp.abs(columns.mean) / xp.where(spread > 0, spread, xp.ones_like(spread))
    # where all that is seen is rounding, every column may be far
    return xp.where(widest > 0, xp.max(ratio), xp.max(xp.abs(columns.mean) / columns.largest) / ALL)


def suited(
    objective: Objective, start: Array, columns: Columns
) -> tuple[Objective, Array, list[str]]:
    """The objective in an arithmetic that its columns allow, its start, and why.

    Parameters
    ----------
    objective : Objective
        Of a linear model with an intercept.
    start : array (n_params,)
        In the user's coordinates, as the objective's still are.
    columns : Columns
        Of its X.

    Returns
    -------
    objective : Objective
        In float64 where float32 would lose the spread of a column beside its mean, and less the
        means, which the dtype of X holds, where float64 would.
    start : array (n_params,)
        In its coordinates and its dtype.
    reasons : list of str
        One sentence for each change.
    """
    xp, backend = objective.backend.xp, objective.backend
    (far,) = backend.scalars(farthest(columns, xp))
    reasons = []
    name = "float64" if objective.dtype == xp.float64 else "float32"
    if name == "float32" and far > FAR["float32"]:
        objective = objective.in_float64("value and gradient")
        start = xp.astype(start, xp.float64)
        reasons.append(f"Arithmetic in float64: means of columns are {far:.0e} times their spread.")
    is_here = not is_sparse(objective.X) and not is_distributed(objective.X)
    if far > FAR["float64"] and is_here:
        mean = xp.astype(columns.mean / objective.input_scale, objective.dtype)
        objective = objective.shifted(_stored(mean, objective))
        start = objective.enter(start)
        reasons.append("Columns less their means, block by block, before any product.")
    return objective, start, reasons


def _stored(mean: Array, objective: Objective) -> Array:
    """The mean rounded to the dtype of X, if that is floating: X - mean is then nearly exact."""
    xp = objective.backend.xp
    name = str(objective.X.dtype).rpartition(".")[2]
    stored = getattr(xp, name) if name in FAR else mean.dtype
    return xp.astype(xp.astype(mean, stored), mean.dtype)
