"""The loop that drives every solver, and what comes out of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Any, ClassVar, Protocol

import numpy as np

from accel.interrupts import SureInterrupts
from accel.solvers.certificate import NOISE, Certificate, eps_of, foretold
from accel.solvers.status import Status

Array = Any
MOST_IDLE = 10  # updates at the level of rounding that may pass without progress


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
    promise : float
        Decrease that the direction of the last update, or the failed one, promised.
    decrease : float
        Of the value in the last update.
    least : float
        What is left is not taken for less than this.
    left : float
        Estimate of the decrease that is still to be had.
    idle : int
        Consecutive updates that promised no decrease beyond rounding and brought no progress.
    mark : tuple of float or None
        Value and error at the last progress.
    """

    params: Array
    gradient: Array
    value: float
    error: float
    n_evals: int
    memory: Any = None
    stalled: bool = False
    promise: float = float("inf")
    decrease: float = float("inf")
    least: float = 0.0
    left: float = float("inf")
    idle: int = 0
    mark: tuple[float, float] | None = None


@dataclass(frozen=True)
class Snapshot:
    """All that the next update depends on, and the history so far: what a checkpoint holds.

    Parameters
    ----------
    state : State
        Where the solver stands; its arrays are on the device, and nothing writes into them.
    history : tuple of float
        Objective before each update done.
    ratio : float
        The user's max|gradient| over state.error at the last exact look before this state: it
        decides when the next look is due, and so how the state is judged.
    elapsed_s : float
        Seconds spent so far.
    ended : Status or None
        Why no update follows; None where one does. Judged anew by the run that goes on.
    """

    state: State
    history: tuple[float, ...] = ()
    ratio: float = 1.0
    elapsed_s: float = 0.0
    ended: Status | None = None


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
        Seconds since the start, those before an interruption included.
    tol : float
        The max|gradient| that ends the fit.
    max_iter : int
        The number of updates that ends the fit.
    params : callable
        () -> the parameters at this moment, in the user's coordinates, on the device.
    n_passes, bytes_read : int
        Reads of X by this process, and their bytes.
    """

    n_iter: int
    value: float
    error: float
    elapsed_s: float
    tol: float
    max_iter: int
    params: Callable[[], Array]
    n_passes: int = 0
    bytes_read: int = 0


@dataclass(frozen=True)
class Solution:
    """What came of a minimisation: parameters and their certificate.

    Parameters
    ----------
    params : array (n_params,)
        On the device.
    value, error : float
        Objective and max|gradient| at params, in float64 whatever the dtype of the arithmetic.
    gap : float
        Duality gap there: the most by which the objective can still fall. The value itself where
        no penalty bounds it.
    status : Status
        How it ended.
    n_iter, n_evals : int
        Updates, and evaluations of the objective.
    history : tuple of float
        Objective before each update.
    resumed : int
        Updates that were done by the run it went on from.
    unsaved : OSError or None
        Why a snapshot could not be kept, where that ended it: to be raised once the rest is.
    """

    params: Array
    value: float
    error: float
    gap: float
    status: Status
    n_iter: int
    n_evals: int
    history: tuple[float, ...]
    resumed: int = 0
    unsaved: OSError | None = None

    def sentence(self, tol: float) -> str:
        """How it ended, with the certificate beside the tolerance."""
        again = f" (from iteration {self.resumed} of the checkpoint on)" if self.resumed else ""
        return (
            f"{self.status.name} after {self.n_iter} iterations{again}, objective "
            f"{self.value:.8g}, max|gradient| {self.error:.3g}, tol {tol:.3g}, "
            f"{self.bound}: {self.status.value}"
        )

    @property
    def bound(self) -> str:
        """What the duality gap says, in words."""
        if not self.gap < abs(self.value):
            return "no bound on what is left"
        return f"at most {self.gap:.2g} above the minimum"


class Solver(Protocol):
    """An algorithm as a first state and a step."""

    may_condition: ClassVar[bool]  # whether its iterates may change with the coordinates

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
    resume: Snapshot | None = None,
    keep: Callable[[Snapshot], Any] | None = None,
) -> Solution:
    """Lower the objective until max|gradient| <= tol and what is left to gain does not matter.

    It does not where the duality gap, or the decrease that the last updates foretell, is at most
    tol times the objective. Of a network, which is not convex, the gradient alone is judged.

    Parameters
    ----------
    objective : Objective
        Or a change of its variables: has ``value_and_grad``, ``error``, ``certify``, ``expand``,
        ``effort``, ``backend``, ``is_convex``, ``gap``, ``alpha``, ``l1``; for the Newton methods a
        `Standardised`.
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
    resume : Snapshot, optional
        Of the same objective and solver: the fit goes on from it, not from params, to bitwise the
        end of a fit that was never cut.
    keep : callable, optional
        Called with a `Snapshot` before each update, ahead of the callback, and with the last one.
        An OSError that it raises ends the fit; the solution carries it.

    Returns
    -------
    Solution
        The last state with finite numbers, and how the loop ended.
    """
    with SureInterrupts() as interrupts:
        return _walk(
            objective, params, solver, tol, max_iter, callback, resume, keep, interrupts.check
        )


def _walk(
    objective: Any,
    params: Array,
    solver: Solver,
    tol: float,
    max_iter: int,
    callback: Callable[[Progress], Any] | None,
    resume: Snapshot | None,
    keep: Callable[[Snapshot], Any] | None,
    check_interrupts: Callable[[], None],
) -> Solution:
    """The loop of `minimize`."""
    began = time.perf_counter() - (resume.elapsed_s if resume else 0.0)
    first = resume or Snapshot(_quietly(solver.init, objective, params))
    certificate = Certificate(objective, tol, first.ratio)
    state, ratio, history, n_iter = first.state, first.ratio, [*first.history], len(first.history)

    def progress() -> Progress:
        elapsed_s, users = time.perf_counter() - began, partial(objective.expand, state.params)
        return Progress(
            n_iter, state.value, state.error, elapsed_s, tol, max_iter, users, *objective.effort
        )

    def snapshot(ended: Status | None = None) -> Snapshot:
        elapsed_s = time.perf_counter() - began
        return Snapshot(state, tuple(history[:n_iter]), ratio, elapsed_s, ended)

    unsaved = None
    try:
        while (status := _outcome(certificate, state, history, max_iter)) is None:
            check_interrupts()
            if (unsaved := _unkept(keep, snapshot)) is not None:
                break
            if callback is not None and callback(progress()):
                status = Status.STOPPED
                break
            following = _quietly(solver.step, objective, state)
            if not _is_finite(following):
                status = Status.DIVERGED
                break
            following = _counted(objective, state, following)
            if not following.stalled:
                history.append(state.value)
            # in one assignment: Ctrl-C between two of them would leave a snapshot torn
            state, n_iter, ratio = following, len(history), certificate.ratio
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    unsaved = unsaved or _unkept(keep, partial(snapshot, status))
    status = Status.UNSAVED if unsaved or status is None else status
    numbers = *certificate.look(state), status, n_iter, state.n_evals
    return Solution(state.params, *numbers, tuple(history[:n_iter]), len(first.history), unsaved)


def _unkept(keep: Callable[[Snapshot], Any] | None, snapshot: Any) -> OSError | None:
    """What went wrong in keeping a snapshot."""
    try:
        if keep is not None:
            keep(snapshot())
    except OSError as error:
        return error
    return None


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
    return gradient, objective.backend.scalars(value, objective.error(params, gradient), *extras)


def _counted(objective: Any, state: State, following: State) -> State:
    """The following state, with the count of updates since the last progress."""
    eps = eps_of(state.params, objective.backend.xp)
    following = foretold(state, following)
    value, error = state.mark or (state.value, state.error)
    progressed = following.value < value - eps * abs(value) or following.error <= 0.5 * error
    if progressed or following.promise > NOISE * eps * abs(value):
        return replace(following, idle=0, mark=(following.value, following.error))
    return replace(following, idle=state.idle + 1, mark=(value, error))


def _outcome(
    certificate: Certificate, state: State, history: list[float], max_iter: int
) -> Status | None:
    """Why to stop at this state, or None to go on."""
    if not _is_finite(state):
        return Status.DIVERGED
    if certificate.may_hold(state):
        is_low, is_separable = certificate.is_low(state), certificate.is_separable(state)
        if (is_low or is_separable) and certificate.error(state) <= certificate.tol:
            return Status.CONVERGED if is_low else Status.SEPARABLE
    if state.stalled or state.idle > MOST_IDLE:
        # the cheap bound may be above tol where the exact error is not
        if certificate.error(state) <= certificate.tol:
            return Status.CONVERGED
        eps = eps_of(state.params, certificate.objective.backend.xp)
        is_rounding = certificate.objective.is_convex and (
            state.promise <= NOISE * eps * abs(state.value)
        )
        return Status.ROUNDING if is_rounding else Status.STALLED
    if len(history) >= max_iter:
        grew = bool(history) and state.value > history[0]
        return Status.DIVERGED if grew else Status.MAX_ITER
    return None
