"""Solvers: one algorithm a file, and the one loop that drives them.

Here belongs what walks from one parameter vector to a better one, knowing an objective only
through `value_and_grad`. No loss, no data and no backend is named here; non-finite values, step
limits and messages are handled once, in `loop`.

To add a solver, write a class with ``init`` and ``step`` and add a line to `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from accel.solvers.gd import GradientDescent
from accel.solvers.lbfgs import LBFGS
from accel.solvers.loop import Progress, Solution, Solver, State, Status, minimize

__all__ = ["SOLVERS", "Progress", "Solution", "Solver", "State", "Status", "minimize"]

# name -> solver for the learning rate asked for (L-BFGS finds its own step)
SOLVERS: dict[str, Callable[[float], Solver]] = {
    "lbfgs": lambda learning_rate: LBFGS(),  # noqa: ARG005
    "gd": GradientDescent,
}
