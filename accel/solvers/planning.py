"""What a fit will do, decided before it starts: coordinates and solver, each with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.cluster import is_distributed
from accel.conditioning import Standardised, coordinates, look, row_space, suited
from accel.objective import Objective
from accel.solvers.curvature import affordable
from accel.solvers.gd import GradientDescent
from accel.solvers.lbfgs import LBFGS
from accel.solvers.loop import Progress, Solver, minimize
from accel.solvers.newton import NewtonCholesky
from accel.solvers.newton_cg import NewtonCG
from accel.solvers.orthant import OrthantNewton
from accel.solvers.proximal import ProximalNewton
from accel.solvers.sampling import sample_newton
from accel.solvers.status import Status

Array = Any

# name -> solver for the learning rate asked for (all but gd find their own step)
SOLVERS: dict[str, Callable[[float], Solver]] = {
    "lbfgs": lambda learning_rate: LBFGS(),  # noqa: ARG005
    "newton-cg": lambda learning_rate: NewtonCG(),  # noqa: ARG005
    "newton-cholesky": lambda learning_rate: NewtonCholesky(),  # noqa: ARG005
    "orthant": lambda learning_rate: OrthantNewton(),  # noqa: ARG005
    "prox-newton": lambda learning_rate: ProximalNewton(),  # noqa: ARG005
    "gd": GradientDescent,
}
REASONS = {
    "orthant": "Solver orthant: Newton on the orthants of the l1 penalty, exact zeros.",
    "prox-newton": "Solver prox-newton: Newton on what the l1 penalty leaves, exact zeros.",
}
# Operations of a Hessian of all parameters up to which one of those at work is always affordable.
PROXIMAL_FLOPS = 1e10
FROM_SAMPLE = "Solver lbfgs: one read of X an update, with the Hessian of a sample."
TOO_POOR = "Solver lbfgs: too few rows at hand for a Hessian."
# A Hessian of this many parameters is factored in the time of a few calls, whatever the number of
# rows; and formed, in this many operations, in less than the passes it saves.
FEW_PARAMETERS = 128
HESSIAN_FLOPS = 2e6
# Rows a column from which a sample's Hessian is better than none: with 6, 13 passes where 25 in
# the metric of Newton-CG; with 1.5, 103.
ROWS_FOR_HESSIAN = 8
# The optimum of m rows is off by about n_params / 2 m in the objective: to find it closer is vain.
SAMPLE_ACCURACY = 0.01
SAMPLE_UPDATES = 100


@dataclass(frozen=True)
class Plan:
    """Coordinates, start and solver of a fit, and why.

    Parameters
    ----------
    objective : Objective
        As it is computed: in what arithmetic, less which numbers.
    problem : Objective, RowSpace or Standardised
        What is minimised, in whatever coordinates.
    start : array (n_params,)
        Start in its coordinates, on the device.
    solver : Solver
        The algorithm.
    solver_name : str
        Its key in `SOLVERS`.
    reasons : tuple of str
        One sentence for each decision.
    small_passes : Counter
        Passes over the rows of a reduced problem, by what they are for.
    """

    objective: Objective
    problem: Any
    start: Array
    solver: Solver
    solver_name: str
    reasons: tuple[str, ...]
    small_passes: Counter[str]


def plan(
    objective: Objective, start: Array, solver_name: str, *, learning_rate: float, max_iter: int
) -> Plan:
    """Choose coordinates and, where "auto" is asked for, the solver.

    Parameters
    ----------
    objective : Objective
        Of a linear model, in the user's coordinates.
    start : array (n_params,)
        Start in the user's coordinates.
    solver_name : str
        A key of `SOLVERS`, or "auto".
    learning_rate : float
        For the solvers that take one.
    max_iter : int
        Largest number of updates.

    Returns
    -------
    Plan
        What to do.
    """
    likely = SOLVERS["newton-cg" if solver_name == "auto" else solver_name](learning_rate)
    reasons: list[str] = []
    columns = None
    if likely.may_condition and objective.network.bias:
        with np.errstate(all="ignore"):
            columns = look(objective)
            given = objective
            objective, start, reasons = suited(objective, start, columns)
        if objective is not given:
            columns = None
    if objective.sample is not objective:
        return _plan_by_sample(objective, start, solver_name, learning_rate, reasons, columns)
    if solver_name == "orthant":
        solver_name, objective, start = _for_l1(objective, start)
    problem: Any = objective
    linear = objective
    if solver_name != "gd" and _is_worse_than_zero(objective, start):
        start = objective.backend.xp.zeros_like(start)
        reasons.append("Start: zero, where the objective is lower than at the start given.")
    n, d = objective.X.shape
    few = solver_name == "auto" and _is_few(n, objective.network)
    if not few:
        with np.errstate(all="ignore"):  # a Gram matrix that overflows is refused by its pivots
            reduced = row_space(objective, start, likely.expected_passes(max_iter))
        if reduced is not None:
            problem, linear, start = reduced, reduced.reduced, reduced.start
            columns = None
            reasons.append(
                f"Row space: {n} rows span the gradients, so {n} coordinates replace {d}."
            )
    if likely.may_condition:
        with np.errstate(all="ignore"):
            here = coordinates(linear, start.dtype, columns)
            problem = here.of(problem, linear, start)
        start = problem.start
        reasons += _of_columns(problem)
    if solver_name == "auto":
        solver_name, why = choose(n, linear.network)
        reasons.append(why)
    else:
        reasons += _asked_for(solver_name)
    return Plan(
        objective,
        problem,
        start,
        SOLVERS[solver_name](learning_rate),
        solver_name,
        tuple(reasons),
        Counter() if linear is objective else linear.passes,
    )


def _plan_by_sample(
    objective: Objective,
    start: Array,
    solver_name: str,
    learning_rate: float,
    reasons: list[str],
    columns: Any,
) -> Plan:
    """Where X is brought anew for every pass: passes are dear, the sampled rows are at hand.

    The optimum of a sample is off by a standard error, and its Hessian is that of X up to noise: so
    L-BFGS takes 4 to 8 passes in all, where Newton's method from zero takes 20 to 40 (measured,
    samples of a sixteenth of the rows, more than 40 a column).
    """
    name = "lbfgs" if solver_name in ("auto", "newton-cholesky") else solver_name
    solver = SOLVERS[name](learning_rate)
    if not solver.may_condition:
        asked = _asked_for(solver_name)
        return Plan(objective, objective, start, solver, solver_name, asked, Counter())
    sample = objective.sample
    rows = sample.X.shape[0]
    is_rich = _is_rich(rows, objective.network)
    if is_rich:
        start, why = _start_by_sample(sample, start, learning_rate)
        reasons.append(why)
    with np.errstate(all="ignore"):
        problem = coordinates(objective, start.dtype, columns).of(objective, objective, start)
    reasons += _of_columns(problem)
    if solver_name == "newton-cholesky":
        reasons.append("newton-cholesky needs all rows at hand; the optimum is the same.")
    if name == "lbfgs" and is_rich:
        solver = LBFGS(inverse=sample_newton(problem, problem.start))
        reasons.append(FROM_SAMPLE)
    elif name != solver_name:
        reasons.append(TOO_POOR)
    else:
        reasons += _asked_for(solver_name)
    return Plan(objective, problem, problem.start, solver, name, tuple(reasons), Counter())


def _start_by_sample(sample: Objective, start: Array, learning_rate: float) -> tuple[Array, str]:
    """The optimum of a sample, or the start given, where the sample cannot tell them apart."""
    rows, backend = sample.X.shape[0], sample.backend
    way = plan(
        sample,
        start,
        "auto" if sample.l1 is None else "orthant",
        learning_rate=learning_rate,
        max_iter=SAMPLE_UPDATES,
    )
    accuracy = sample.network.n_params / rows
    found = minimize(
        way.problem,
        way.start,
        way.solver,
        tol=0.0,
        max_iter=SAMPLE_UPDATES,
        callback=_until_gain_is_below(SAMPLE_ACCURACY * accuracy),
    )
    if found.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    (given,) = backend.scalars(sample.value_and_grad(start)[0])
    if given - found.value <= accuracy:
        return start, f"Start: as given; {rows} sampled rows know no better."
    why = f"Start: the optimum of {rows} sampled rows, {found.n_iter} updates."
    expanded = sample.enter(way.problem.expand(found.params))
    return sample.backend.xp.astype(expanded, start.dtype), why


def _until_gain_is_below(least: float) -> Callable[[Progress], bool]:
    """A callback that ends a fit once an update lowers the objective by less."""
    last = float("inf")

    def is_small(progress: Progress) -> bool:
        nonlocal last
        gain, last = last - progress.value, progress.value
        return gain < least

    return is_small


def _of_columns(problem: Standardised) -> list[str]:
    """What was done to the columns, and why."""
    reasons = []
    if problem.mean is not None:
        reasons.append("Centred columns: the intercept absorbs the shift.")
    if problem.scale is not None:
        reasons.append("Scaled columns: their curvatures lie more than a million apart.")
    return reasons


def _asked_for(solver_name: str) -> tuple[str, ...]:
    """Why this solver, where its name was given."""
    return (REASONS.get(solver_name, f"Solver {solver_name}: asked for."),)


def choose(n: int, network: Any) -> tuple[str, str]:
    """The solver for a linear model of this shape, and why.

    Parameters
    ----------
    n : int
        Rows.
    network : Network
        The model, after a reduction to the row space.

    Returns
    -------
    name : str
        Key of `SOLVERS`.
    reason : str
        One sentence.
    """
    width, K = network.n_in + network.bias, network.n_out
    size = f"{width} x {K} parameters"
    if _is_few(n, network):
        return "newton-cholesky", f"Solver newton-cholesky: {size} are few, H is cheap to factor."
    if affordable(n, width, K):
        return "newton-cg", (
            f"Solver newton-cg: {size}, with a {width} x {width} metric from a row sample."
        )
    return "lbfgs", f"Solver lbfgs: {size} are too many for a {width} x {width} metric to pay."


def expectation(n: int, network: Any, solver_name: str, sample_rows: int | None) -> str:
    """What `plan` will choose, before there is an objective.

    Parameters
    ----------
    n : int
        Rows.
    network : Network
        The linear model.
    solver_name : str
        A key of `SOLVERS`, or "auto".
    sample_rows : int or None
        Rows at hand of a streamed X; None where all are.

    Returns
    -------
    str
        One sentence.
    """
    if solver_name != "auto":
        return _asked_for(solver_name)[0]
    if sample_rows is None:
        return choose(n, network)[1]
    if not _is_rich(sample_rows, network):
        return TOO_POOR
    return f"{FROM_SAMPLE} 4 to 8 passes from the optimum of the sample are usual."


def _is_rich(rows: int, network: Any) -> bool:
    """Whether a sample of so many rows has a Hessian to go by."""
    return rows >= ROWS_FOR_HESSIAN * (int(network.n_in) + int(network.bias))


def _is_worse_than_zero(objective: Objective, start: Array) -> bool:
    """Whether a start was given and zero is lower: a saturated loss has no curvature to follow."""
    xp, backend = objective.backend.xp, objective.backend
    (largest,) = backend.scalars(xp.max(xp.abs(start)))
    if largest == 0:
        return False
    with np.errstate(all="ignore"):
        values = [objective.value_and_grad(point)[0] for point in (start, xp.zeros_like(start))]
        given, zero = backend.scalars(*values)
    return not given <= zero


def _for_l1(objective: Objective, start: Array) -> tuple[str, Objective, Array]:
    """The solver for an l1 penalty, the objective in its arithmetic, and the start."""
    n, n_params = objective.X.shape[0], objective.network.n_params
    if is_distributed(objective.X) or n * n_params**2 > PROXIMAL_FLOPS:
        return "orthant", objective, start
    # the Hessian is float64, and the steps follow flat valleys
    objective = objective.in_float64("value and gradient")
    return "prox-newton", objective, objective.backend.xp.astype(start, objective.dtype)


def _is_few(n: int, network: Any) -> bool:
    n_params: int = network.n_params
    return n_params <= FEW_PARAMETERS and n * n_params**2 <= HESSIAN_FLOPS
