"""Where the states of a linear fit are kept, and what a state depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from accel.backends import Backend
from accel.checkpoint import Checkpoint, digest
from accel.placement import Place
from accel.solvers import Plan

# Options on which the optimum and the way there depend; what is left may change between runs.
OF_THE_RUN = ("C", "l1_ratio", "fit_intercept", "learning_rate", "input_scale")


@dataclass(frozen=True)
class Store:
    """Where the states of one try are kept, and whether to go on from what is there."""

    checkpoint: Checkpoint
    goes_on: bool

    def resumed(
        self, backend: Backend, start: NDArray[Any], planned: Callable[[Any], Plan]
    ) -> tuple[Plan, Any, Checkpoint]:
        """The plan from the start, or from the parameters of a state of another plan."""
        snapshot = restart = None
        if self.goes_on:
            self.checkpoint.load_snapshot(backend)  # another run is refused before any work
        way = planned(backend.asarray(start))
        store = self._of(way, start)
        if self.goes_on:
            snapshot, restart = store.load_snapshot(backend)
        if restart is not None:
            way = planned(restart)
            store = self._of(way, backend.to_numpy(restart))
        return way, snapshot, store

    def _of(self, way: Plan, start: NDArray[Any]) -> Checkpoint:
        """What a state depends on beside the run: blocks, coordinates, solver and start."""
        words = {
            "solver": way.solver_name,
            "coordinates": f"{type(way.problem).__name__} {tuple(way.start.shape)}",
            "scaled": str(getattr(way.problem, "scale", None) is not None),
            "start": digest(start),
        }
        return replace(self.checkpoint, plan={**self.checkpoint.plan, **words})


def store_at(checkpoint: Checkpoint, place: Place, rescued: bool) -> Store:
    """The store of a try; parameters that were rescued are newer than what it holds."""
    blocks = {
        "backend": place.backend.name,
        "is_streamed": place.is_streamed,
        "block_rows": place.block_rows if place.is_streamed else 0,
        "sample_rows": place.sample_rows if place.is_streamed else 0,
    }
    plan_words = {name: str(value) for name, value in blocks.items()}
    return Store(replace(checkpoint, plan=plan_words), not rescued)


def checkpoint_of(problem: Any, *, warm_start: bool) -> Checkpoint | None:
    """Where the states of a fit are kept, and what the run is; None where none were asked for.

    Parameters
    ----------
    problem : Problem
        What is fitted.
    warm_start : bool
        Whether the fit starts where the last one ended.

    Returns
    -------
    Checkpoint or None
        Proven writable.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    options, targets = problem.options, problem.targets
    if options.checkpoint is None:
        return None
    if warm_start:
        raise ValueError("checkpoint goes on from its own state: set warm_start=False.")
    run = {name: repr(getattr(options, name)) for name in OF_THE_RUN}
    run["solver"] = problem.solver
    run["start"] = digest(problem.start)
    run["data"] = digest(problem.X, targets.index, targets.weight)
    store = Checkpoint(options.checkpoint, options.checkpoint_every, run)
    store.prepare()
    return store
