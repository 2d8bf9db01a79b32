"""Newton's method by conjugate gradients for a stack of problems, in lock step."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.solvers.certificate import HELD, NOISE, eps_of, left_by_model, negligible
from accel.solvers.curvature import metric
from accel.solvers.line_search import HALVINGS, SUFFICIENT_DECREASE, VALUE_NOISE
from accel.solvers.loop import MOST_IDLE
from accel.solvers.newton_cg import NewtonCG, conjugate_gradients, forcing
from accel.solvers.status import Status

Array = Any
# A Newton system need not be solved to more than this part of what the tolerance still asks for.
ENOUGH = 0.8
# The first forcing term is smaller than that of one problem from zero: starts are good here.
LARGEST_FORCING = 0.1


@dataclass
class Solutions:
    """What came of a stack of minimisations: parameters and a certificate for each problem.

    Parameters
    ----------
    params : array (n_problems, n_params)
        On the device.
    values, errors, gaps : ndarray (n_problems,)
        Objectives, max|gradient| and duality gaps at params.
    status : list of Status
        How each ended.
    n_iter : ndarray (n_problems,)
        Updates of each.
    """

    params: Array
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    gaps: NDArray[np.float64]
    status: list[Status]
    n_iter: NDArray[np.int32]


@dataclass(frozen=True)
class _Point:
    """Where problems stand: params and gradients on the device, the rest on the host."""

    params: Array
    gradient: Array
    value: NDArray[np.float64]
    error: NDArray[np.float64]
    gap: NDArray[np.float64]

    def take(self, places: NDArray[np.intp], backend: Any) -> _Point:
        """The points of some problems."""
        on_device = backend.asarray(places)
        params, gradient = (
            backend.xp.take(array, on_device, axis=0) for array in (self.params, self.gradient)
        )
        numbers = (array[places] for array in (self.value, self.error, self.gap))
        return _Point(params, gradient, *numbers)

    def where(self, changed: NDArray[np.bool_], other: _Point, backend: Any) -> _Point:
        """The other point for the problems that have changed."""
        on_device = backend.asarray(changed)[:, None]
        return _Point(
            backend.xp.where(on_device, other.params, self.params),
            backend.xp.where(on_device, other.gradient, self.gradient),
            np.where(changed, other.value, self.value),
            np.where(changed, other.error, self.error),
            np.where(changed, other.gap, self.gap),
        )


def minimize_together(stack: Any, params: Array, *, tol: float, max_iter: int) -> Solutions:
    r"""Lower the objectives of a stack until each max|gradient| <= tol and little is left to gain.

    .. math:: \theta_b \leftarrow \theta_b + t_b p_b, \qquad
              \|H_b p_b + g_b\| \le \eta_b \|g_b\|, \qquad b = 1 \dots B

    The problems walk in lock step, so that a pass over X serves them all, each with its own forcing
    term, step length and end; passes are done for the problems that still need them.

    Parameters
    ----------
    stack : Stack or Standardised
        The problems, or a change of their variables.
    params : array (n_problems, n_params)
        Start, on the device; not modified.
    tol : float
        Largest absolute component of a gradient at which to stop.
    max_iter : int
        Largest number of updates.

    Returns
    -------
    Solutions
        The last states with finite numbers, and how each problem ended.

    Notes
    -----
    Nocedal & Wright, Numerical Optimization, 2nd ed., Algorithm 7.1, page 169, with step lengths
    halved from 1 until the value decreases enough (Algorithm 3.1, page 37). Each pass brings a few
    numbers for each problem to the host in one transfer.
    """
    n_rows, row_bytes = stack.pass_size
    # overflow is an outcome
    with np.errstate(all="ignore"), stack.backend.many_products(n_rows, row_bytes):
        return _minimize(stack, params, tol, max_iter)


def _minimize(stack: Any, params: Array, tol: float, max_iter: int) -> Solutions:
    backend, n_problems = stack.backend, params.shape[0]
    point = _evaluate(stack, params)
    left = np.full(n_problems, np.inf)
    first, idle = np.zeros(n_problems), np.zeros(n_problems, dtype=int)
    n_iter, eps = np.zeros(n_problems, dtype=np.int32), eps_of(params, backend.xp)
    stalled = np.zeros(n_problems, dtype=bool)
    while True:
        low = np.minimum(point.gap, left)
        facts = zip(point.value, point.error, low, stack.alphas, idle, stalled, n_iter, strict=True)
        status = [_outcome(*own, eps=eps, tol=tol, max_iter=max_iter) for own in facts]
        going = np.array([one is None for one in status])
        if not going.any():
            ends = [one for one in status if one is not None]
            gap = np.minimum(point.gap, point.value)
            return Solutions(point.params, point.value, point.error, gap, ends, n_iter)
        places = np.flatnonzero(going)
        here, start = stack.take(places), point.take(places, backend)
        direction, first[places] = _direction(here, start, first[places], tol)
        following, moved, promise = _search(here, start, direction)
        halved = moved & (following.error <= 0.5 * start.error)
        decrease = start.value - following.value
        left[places] = left_by_model(promise, decrease, start.error, following.error)
        at_rounding = promise <= NOISE * eps * np.abs(start.value)
        idle[places] = np.where(at_rounding & ~halved, idle[places] + 1, 0)
        stalled[places], n_iter[places] = ~moved, n_iter[places] + moved
        back = np.zeros(n_problems, dtype=np.intp)
        back[places] = np.arange(len(places))
        point = point.where(going, following.take(back, backend), backend)


def _evaluate(stack: Any, params: Array) -> _Point:
    """One pass; values, max|gradient| and gaps come to the host in one transfer."""
    backend, xp = stack.backend, stack.backend.xp
    value, gradient = stack.value_and_grad(params)
    error = xp.astype(stack.error(params, gradient), value.dtype)
    gap = xp.astype(stack.gap(params, value, gradient), value.dtype)
    return _Point(params, gradient, *backend.to_numpy(xp.stack([value, error, gap])))


def _direction(
    stack: Any, point: _Point, first: NDArray[np.float64], tol: float
) -> tuple[Array, NDArray[np.float64]]:
    """Newton's directions as far as they help, and the norm of each problem's first gradient."""
    backend, xp = stack.backend, stack.backend.xp
    quadratic = stack.quadratic(point.params)
    precondition = metric(quadratic) or (lambda gradient: gradient)
    z = precondition(point.gradient)
    square = backend.to_numpy(xp.sum(point.gradient * z, axis=1))
    norm = np.sqrt(np.maximum(square, 0.0))
    first = np.where(first > 0, first, np.where(norm > 0, norm, 1.0))
    enough = ENOUGH * tol / np.maximum(point.error, tol)
    relative = np.maximum(np.minimum(forcing(norm, first), LARGEST_FORCING), enough)
    direction = conjugate_gradients(
        quadratic,
        point.gradient,
        z,
        precondition,
        backend.asarray(relative, dtype=z.dtype),
        NewtonCG.max_products,
        lambda model, going: model.only(going),
    )
    return direction, first


def _search(
    stack: Any, start: _Point, direction: Array
) -> tuple[_Point, NDArray[np.bool_], NDArray[np.float64]]:
    """Points of sufficient decrease, whether there are any, and the decrease that was promised."""
    backend, xp = stack.backend, stack.backend.xp
    slope = backend.to_numpy(xp.sum(start.gradient * direction, axis=1, dtype=xp.float64))
    rounding = VALUE_NOISE * eps_of(direction, xp) * np.abs(start.value)
    point, step, moved = start, np.ones(len(slope)), np.zeros(len(slope), dtype=bool)
    searching = slope < 0
    for _ in range(HALVINGS):
        if not searching.any():
            break
        length = backend.asarray(step, dtype=direction.dtype)[:, None]
        trial = _evaluate(stack.only(searching), start.params + length * direction)
        allowed = start.value + SUFFICIENT_DECREASE * step * slope + rounding
        found = searching & (trial.value <= allowed) & np.isfinite(trial.error)
        point, moved = point.where(found, trial, backend), moved | found
        searching = searching & ~found
        step = np.where(searching, 0.5 * step, step)
    return point, moved, np.abs(slope) / 2


def _outcome(
    value: float,
    error: float,
    left: float,
    alpha: float,
    idle: int,
    stalled: bool,
    n_iter: int,
    *,
    eps: float,
    tol: float,
    max_iter: int,
) -> Status | None:
    """Why a problem stops here, or None to go on; as `accel.solvers.loop` judges one."""
    if not (isfinite(value) and isfinite(error)):
        return Status.DIVERGED
    if error <= tol:
        if left <= negligible(value, tol, eps) or stalled or idle > MOST_IDLE:
            return Status.CONVERGED
        if alpha <= HELD and value <= tol:
            return Status.SEPARABLE
    if idle > MOST_IDLE or (stalled and idle):
        return Status.ROUNDING
    if stalled:
        return Status.STALLED
    return Status.MAX_ITER if n_iter >= max_iter else None
