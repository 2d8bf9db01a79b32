"""What a fit may claim of its end: by numbers that cost no pass, then by exact ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from accel.solvers.loop import State

Array = Any
NOISE = 16.0  # what the sums of a value lose, in units of its last digit
# A decrease that the quadratic model foretold within this factor: what it says of the next one,
# from the gradient that is left, is taken with this caution.
FORETOLD, CAUTION = 2.0, 10.0
HELD = 1e-10  # the least alpha that keeps coefficients from growing for ever


def eps_of(array: Array, xp: Any) -> float:
    """The last digit of one in the dtype of an array."""
    return float(xp.finfo(array.dtype).eps)


def negligible(value: Any, tol: float, eps: float) -> Any:
    """The gain that does not matter beside an objective; numbers or NumPy arrays."""
    return max(tol, NOISE * eps) * np.abs(value)


def left_by_model(promise: Any, decrease: Any, error: Any, error_after: Any) -> Any:
    """What a quadratic model tells of the gain that is left; numbers or NumPy arrays.

    Parameters
    ----------
    promise, decrease : float or ndarray
        What it promised for the last update, and what that gained.
    error, error_after : float or ndarray
        max|gradient| before the update and after it.

    Returns
    -------
    float or ndarray
        The promise, where the gain was another or nothing is known of the gradient.
    """
    is_foretold = (decrease >= promise / FORETOLD) & (decrease <= promise * FORETOLD) & (error > 0)
    share = CAUTION * (error_after / np.where(error > 0, error, 1.0)) ** 2
    return np.where(is_foretold, promise * np.minimum(1.0, share), promise)


def foretold(state: State, following: State) -> State:
    r"""The following state with its decrease, and an estimate of what is left.

    Near the minimum a Newton or quasi-Newton step gains what its quadratic model promised,
    :math:`g^\top H^{-1} g / 2`; the same model then tells of the gradient that is left. Where the
    gain was another, nothing better than the promise is known. Of a method without a model,
    decreases are taken to fall by a constant factor.
    """
    decrease, before = state.value - following.value, following.promise
    if before == float("inf"):
        last = state.decrease
        is_falling = 0 <= decrease < last < float("inf")
        left = decrease * decrease / (last - decrease) if is_falling else before
    else:
        left = float(left_by_model(before, decrease, state.error, following.error))
    return replace(following, decrease=decrease, left=max(left, following.least))


class Certificate:
    """What holds at a state in the user's coordinates, exactly; looked at only where it may end.

    state.error may be a cheap lower bound of max|gradient|.
    """

    def __init__(self, objective: Any, tol: float, ratio: float) -> None:
        self.objective, self.tol, self.ratio = objective, tol, ratio
        self._of: State | None = None
        self._found = (0.0, 0.0, 0.0)

    def may_hold(self, state: State) -> bool:
        """Whether max|gradient| may be at most tol, by the ratio of the last look."""
        return state.error * self.ratio <= self.tol

    def is_low(self, state: State) -> bool:
        """Whether what is left to gain does not matter, by numbers that cost no pass."""
        objective = self.objective
        if not objective.is_convex:
            return True
        backend = objective.backend
        least = negligible(state.value, self.tol, eps_of(state.params, backend.xp))
        if state.left <= least:
            return True
        with np.errstate(all="ignore"):
            (gap,) = backend.scalars(objective.gap(state.params, state.value, state.gradient))
        return bool(gap <= least)

    def is_separable(self, state: State) -> bool:
        """Whether the loss is nearly zero and nothing keeps the coefficients from growing."""
        objective = self.objective
        is_held = not objective.is_convex or objective.alpha > HELD or objective.l1 is not None
        return not is_held and state.value <= self.tol

    def error(self, state: State) -> float:
        """max|gradient|."""
        return self.look(state)[1]

    def look(self, state: State) -> tuple[float, float, float]:
        """Value, max|gradient| and gap; taken once a state."""
        if self._of is not state:
            with np.errstate(all="ignore"):
                exact = self.objective.certify(state.params, state.value, state.gradient)
            is_known = exact[0] is state.value
            found = self.objective.backend.scalars(*exact[1 if is_known else 0 :])
            value, error, gap = (state.value, *found) if is_known else found
            self._found = value, error, min(gap, value)
            self._of = state
            self.ratio = max(1.0, error / state.error) if state.error > 0 else 1.0
        return self._found
