"""Solvers: one algorithm a file, and the one loop that drives them.

Here belongs what walks from one parameter vector to a better one, knowing an objective only
through its value, its gradient and its second-order model, and the choice among them (`planning`).
No data and no backend is named here; non-finite values, step limits and messages are handled
once, in `loop`.

To add a solver, write a class with ``init`` and ``step`` and add a line to `planning.SOLVERS`.
"""

from accel.solvers.loop import Progress, Snapshot, Solution, Solver, State, minimize
from accel.solvers.planning import SOLVERS, Plan, plan
from accel.solvers.status import Status

__all__ = [
    "SOLVERS",
    "Plan",
    "Progress",
    "Snapshot",
    "Solution",
    "Solver",
    "State",
    "Status",
    "minimize",
    "plan",
]
