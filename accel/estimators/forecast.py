"""What a fit would do, told before it is begun."""

from __future__ import annotations

from accel.estimators.account import item
from accel.estimators.linear_fit import Problem
from accel.network import Network
from accel.placement import Place, size
from accel.solvers.planning import expectation


def forecast(problem: Problem, place: Place, what: str) -> str:
    """Where a fit would keep X, what it would hold, how often it would read it.

    Parameters
    ----------
    problem : Problem
        The fit.
    place : Place
        Where it would be tried first.
    what : str
        Estimator, shape, dtype and penalty.

    Returns
    -------
    str
        Lines of at most 80 columns; nothing is read or allocated for them.
    """
    sizes = problem.sizes
    n, d = sizes.shape
    network = Network(d, sizes.n_outputs, bias=problem.options.fit_intercept)
    held = [f"X {size(sizes.stored_bytes)}"]
    if place.is_streamed:
        block = place.block_rows * sizes.stored_bytes / n
        held = [
            f"blocks of {place.block_rows} rows ({size(block)})",
            f"a sample of {place.sample_rows} rows "
            f"({size(place.sample_rows * sizes.stored_bytes / n)})",
        ]
    held.append(f"labels, weights and curvatures {size(sizes.vector_bytes)}")
    at_hand = place.sample_rows if place.is_streamed else None
    return "\n".join(
        [
            item("", what),
            item("where", str(place.backend.report())),
            item("why", place.reason or "Placement: X stays where it lies."),
            item("memory", ", ".join(held)),
            item("why", expectation(n, network, problem.solver, at_hand)),
            item("reads", f"{size(sizes.stored_bytes)} a pass over X"),
        ]
    )
