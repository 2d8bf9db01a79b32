"""Which pass an objective runs: a proven kernel of the backend, a fused function, the formula."""

from __future__ import annotations

from typing import Any

from accel.backends.interchange import is_sparse
from accel.backends.linear_model import LinearModel
from accel.cluster import is_distributed
from accel.passes import BlockPass, FormulaPass
from accel.proofs import is_right
from accel.rows import is_streamed


def best_pass(objective: Any) -> Any:
    """The pass of the backend for a linear model, where there is one; else the formula's.

    Parameters
    ----------
    objective : Objective
        Whose pass is looked for.

    Returns
    -------
    LinearPass, FormulaPass or None
        None where X is distributed: its workers find their own, and an objective that holds what
        it has no use for is freed late.
    """
    if is_distributed(objective.X):
        return None
    formula, X, network = _formula(objective), objective.X, objective.network
    if network.hidden or is_sparse(X):
        return formula
    backend, is_double = objective.backend, objective.dtype == objective.backend.xp.float64
    real = "float64" if is_double else "float32"
    model = LinearModel(objective.loss.name, network.n_in, network.n_out, network.bias, real)
    factor = None
    if formula.scale is not None:
        factor = formula.scale[: network.n_in * network.n_out : network.n_out]
    whole = backend.linear_pass(model, X, factor, objective.shift)
    if whole is not None and _is_right("gradient", whole, objective):
        return whole
    # the fused blocks compute in the dtype that X implies, on X as it lies
    if objective.shift is not None or is_double != str(X.dtype).endswith("float64"):
        return formula
    fused = backend.block_pass(objective.loss.name, X, network.n_out)
    return formula if fused is None else BlockPass(formula, fused)


def curvature_pass(objective: Any, one: Any) -> Any:
    """The pass of an objective where its curvatures are proven as well; else the formula's.

    Parameters
    ----------
    objective : Objective
        Of a linear model.
    one : LinearPass or FormulaPass
        What `best_pass` found.

    Returns
    -------
    LinearPass or FormulaPass
        To ask for curvatures.
    """
    is_formula = isinstance(one, FormulaPass)
    return one if is_formula or _is_right("curvature", one, objective) else _formula(objective)


def _formula(objective: Any) -> FormulaPass:
    """The pass as the formulas stand."""
    scale = None if objective.input_scale == 1 else objective.scale
    row_bytes = objective.row_bytes(objective.network)
    return FormulaPass(
        objective.loss, objective.network, objective.dtype, scale, objective.shift, row_bytes,
        objective.backend.xp,
    )  # fmt: skip


def _is_right(what: str, one: Any, objective: Any) -> bool:
    """Whether a pass is proven, on rows that are on the device; none may be, in a stream."""
    known = objective.sample
    if is_streamed(known.X):
        return True
    return is_right(what, one, _formula(objective), known.X, known.Y, objective.backend)
