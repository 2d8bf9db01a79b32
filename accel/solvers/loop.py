"""The loop that drives every solver, and what comes out of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from typing import Any, ClassVar, Protocol

import numpy as np

Array = Any


class Status(Enum):
    """How a fit ended; the value is a sentence that says what to do."""

    CONVERGED = "max|gradient| is at most tol: nothing to do."
    MAX_ITER = (
        "max_iter ended the fit before max|gradient| came down to tol: raise max_iter or tol."
    )
    STALLED = (
        "rounding hides any further decrease of the objective: raise tol, scale X, or pass X as "
        "float64 if it is not."
    )
    DIVERGED = (
        "the objective grew or overflowed: lower learning_rate if the solver is gd, else scale X "
        "or lower C. The parameters are the last finite ones."
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
        Objective and max|gradient| at params (or a cheap lower bound of it), on the host.
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
    """An algorithm as a first state and a step, made of gradients and inner products only."""

    may_centre: ClassVar[bool]  # whether its iterates may change with the coordinates

    def expected_passes(self, max_iter: int) -> int:
        """Evaluations of the objective a fit may take: what a change of variables can save on."""

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
        Or a change of its variables: has ``value_and_grad``, ``error``, ``certify``, ``backend``.
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
    state = _quietly(solver.init, objective, params)
    try:
        while (status := _outcome(objective, state, history, tol, max_iter)) is None:
            elapsed_s = time.perf_counter() - started
            progress = Progress(len(history), state.value, state.error, elapsed_s, tol, max_iter)
            if callback is not None and callback(progress):
                status = Status.STOPPED
                break
            following = _quietly(solver.step, objective, state)
            if not _is_finite(following):
                status = Status.DIVERGED
                break
            if not following.stalled:
                history.append(state.value)
            state = following
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    error = _certified(objective, state)
    return Solution(
        state.params, state.value, error, status, len(history), state.n_evals, tuple(history)
    )


def _quietly(function: Callable[..., State], *arguments: Any) -> State:
    """Overflow is an outcome, judged by the loop; NumPy need not warn of it as well."""
    with np.errstate(all="ignore"):
        return function(*arguments)


def _is_finite(state: State) -> bool:
    return isfinite(state.value) and isfinite(state.error)


def evaluate(objective: Any, params: Array, *more: Any) -> tuple[Array, tuple[float, ...]]:
    """Gradient on the device; value and max|gradient| on the host, and more 0-d arrays with them.

    Each of `more` is a function of the gradient; everything comes in one transfer.
    """
    value, gradient = objective.value_and_grad(params)
    extras = (function(gradient) for function in more)
    return gradient, objective.backend.scalars(value, objective.error(gradient), *extras)


def _certified(objective: Any, state: State) -> float:
    """max|gradient| in the user's coordinates, of which state.error may be a lower bound."""
    with np.errstate(all="ignore"):
        exact = objective.certify(state.params, state.gradient)
    (error,) = objective.backend.scalars(exact)
    return float(error)


def _outcome(
    objective: Any, state: State, history: list[float], tol: float, max_iter: int
) -> Status | None:
    """Why to stop at this state, or None to go on."""
    if not _is_finite(state):
        return Status.DIVERGED
    if state.error <= tol and _certified(objective, state) <= tol:
        return Status.CONVERGED
    if state.stalled:
        return Status.STALLED
    if len(history) >= max_iter:
        grew = bool(history) and state.value > history[0]
        return Status.DIVERGED if grew else Status.MAX_ITER
    return None
