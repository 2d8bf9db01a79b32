"""The loop that drives every solver, and what comes out of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from typing import Any, Protocol

import numpy as np

Array = Any


class Status(Enum):
    """How a fit ended; the value is a sentence that says what to do."""

    CONVERGED = "max|gradient| is at most tol: nothing to do."
    MAX_ITER = (
        "max_iter ended the fit before max|gradient| came down to tol: raise max_iter or tol."
    )
    STALLED = (
        "the objective can no longer be lowered in this floating point type: "
        "pass X as float64 or raise tol."
    )
    DIVERGED = (
        "the objective grew instead of falling: lower learning_rate or use solver='lbfgs'. "
        "The parameters are the last finite ones."
    )
    STOPPED = "the callback asked to stop: the parameters are those of that moment."
    INTERRUPTED = "the keyboard interrupted the fit: the parameters are those of that moment."


@dataclass(frozen=True)
class State:
    """Where a solver stands.

    Parameters
    ----------
    params, gradient : array (n_params,)
        On the device.
    value, error : float
        Objective and max|gradient| at params, on the host.
    n_evals : int
        Evaluations of the objective so far.
    memory : object
        What the solver remembers.
    stalled : bool
        No lower value can be found from here.
    """

    params: Array
    gradient: Array
    value: float
    error: float
    n_evals: int
    memory: Any = None
    stalled: bool = False


@dataclass(frozen=True)
class Progress:
    """What a callback sees before update `n_iter`.

    Parameters
    ----------
    n_iter : int
        Updates done so far.
    value, error : float
        Objective and max|gradient|.
    elapsed_s : float
        Seconds since the start.
    tol : float
        The max|gradient| that ends the fit.
    max_iter : int
        The number of updates that ends the fit.
    """

    n_iter: int
    value: float
    error: float
    elapsed_s: float
    tol: float
    max_iter: int


@dataclass(frozen=True)
class Solution:
    """What came of a minimisation: parameters and their certificate.

    Parameters
    ----------
    params : array (n_params,)
        On the device.
    value, error : float
        Objective and max|gradient| at params.
    status : Status
        How it ended.
    n_iter, n_evals : int
        Updates, and evaluations of the objective.
    history : tuple of float
        Objective before each update.
    """

    params: Array
    value: float
    error: float
    status: Status
    n_iter: int
    n_evals: int
    history: tuple[float, ...]


class Solver(Protocol):
    """An algorithm as a first state and a step."""

    def init(self, objective: Any, params: Array) -> State:
        """The state at the start."""

    def step(self, objective: Any, state: State) -> State:
        """The state after one update."""


def minimize(
    objective: Any,
    params: Array,
    solver: Solver,
    *,
    tol: float,
    max_iter: int,
    callback: Callable[[Progress], Any] | None = None,
) -> Solution:
    """Lower the objective until max|gradient| <= tol.

    Parameters
    ----------
    objective : Objective
        Has ``value_and_grad(params)`` and ``backend.scalars``.
    params : array (n_params,)
        Start, on the backend's device; not modified.
    solver : Solver
        The algorithm.
    tol : float
        Largest absolute component of the gradient at which to stop.
    max_iter : int
        Largest number of updates.
    callback : callable, optional
        Called with a `Progress` before each update; a true result ends the fit.

    Returns
    -------
    Solution
        The last state with finite numbers, and how the loop ended.
    """
    started = time.perf_counter()
    history: list[float] = []

    def stop(state: State) -> bool:
        """Ask the callback."""
        elapsed_s = time.perf_counter() - started
        progress = Progress(len(history), state.value, state.error, elapsed_s, tol, max_iter)
        return callback is not None and bool(callback(progress))

    # Overflow is an outcome, judged below; NumPy need not warn of it as well.
    with np.errstate(all="ignore"):
        state = solver.init(objective, params)
        status = Status.INTERRUPTED
        try:
            while (outcome := _outcome(state, history, tol, max_iter)) is None:
                if stop(state):
                    outcome = Status.STOPPED
                    break
                following = solver.step(objective, state)
                if not (isfinite(following.value) and isfinite(following.error)):
                    outcome = Status.DIVERGED
                    break
                history.append(state.value)
                state = following
            status = outcome
        except KeyboardInterrupt:
            pass
    return Solution(
        state.params, state.value, state.error, status, len(history), state.n_evals, tuple(history)
    )


def _outcome(state: State, history: list[float], tol: float, max_iter: int) -> Status | None:
    """Why to stop at this state, or None to go on."""
    if not (isfinite(state.value) and isfinite(state.error)):
        return Status.DIVERGED
    if state.error <= tol:
        return Status.CONVERGED
    if state.stalled:
        return Status.STALLED
    if len(history) >= max_iter:
        grew = bool(history) and state.value > history[0]
        return Status.DIVERGED if grew else Status.MAX_ITER
    return None
