"""Strong Wolfe line search, on host numbers: it knows one function of one step length.

Nocedal & Wright, Numerical Optimization, 2nd ed., Algorithms 3.5 and 3.6, pages 60 and 61, with
cubic interpolation (3.59). Near the minimum, where values differ only by rounding, the decrease is
judged by the slope instead: Hager & Zhang, SIAM J. Optim. 16 (2005), eq. (4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

SUFFICIENT_DECREASE = 1e-4  # c1
CURVATURE = 0.9  # c2
# A loss of at least zero that would fall by more than this part of itself on the way back: the step
# went past the minimum, to where the loss is saturated and tells little of the way.
OVERSHOT = 0.5
HALVINGS = 30  # of a step that must decrease enough
VALUE_NOISE = 4.0  # rounding of a value, in units of its last digit
GROWTH = 10.0


@dataclass(frozen=True)
class Point:
    """A step length, with value and slope there and whatever the caller keeps with them."""

    step: float
    value: float
    slope: float
    payload: Any = None

    @property
    def is_finite(self) -> bool:
        """Whether both numbers are finite."""
        return isfinite(self.value) and isfinite(self.slope)


def wolfe_search(
    evaluate: Callable[[float], Point],
    start: Point,
    first: Point,
    *,
    rounding: float,
    max_evals: int = 25,
) -> Point | None:
    r"""A step that satisfies the strong Wolfe conditions.

    .. math:: \phi(t) \le \phi(0) + c_1 t \phi'(0), \qquad |\phi'(t)| \le c_2 |\phi'(0)|

    Parameters
    ----------
    evaluate : callable
        Step length -> `Point`.
    start : Point
        Step 0; its slope is negative.
    first : Point
        The first trial, already evaluated.
    rounding : float
        Differences of value up to this are noise.
    max_evals : int, default=25
        Further evaluations allowed.

    Returns
    -------
    Point or None
        The step; where the allowance ends first, the lowest point that decreases enough; None
        where there is none.
    """
    low, high, trial = start, None, first
    best: Point | None = None
    for _ in range(max_evals + 1):
        if _acceptable(trial, start, rounding):
            return trial
        decreases = trial.is_finite and _decreases(trial, start)
        if decreases and trial.value < (best or start).value:
            best = trial
        if not decreases or (trial.value >= low.value and low is not start):
            high = trial
        elif trial.slope * (1.0 if high is None else high.step - low.step) < 0:
            low = trial  # the minimum is further on
        else:
            low, high = trial, low
        step = _next_step(low, high)
        if step in (low.step, trial.step) or (high is not None and step == high.step):
            break  # the bracket holds no further floating point number
        trial = evaluate(step)
    return best


def _decreases(point: Point, start: Point) -> bool:
    return point.value <= start.value + SUFFICIENT_DECREASE * point.step * start.slope


def _acceptable(point: Point, start: Point, rounding: float) -> bool:
    if not point.is_finite or abs(point.slope) > -CURVATURE * start.slope:
        return False
    if point.value > 0 and point.step * point.slope > OVERSHOT * point.value:
        return False
    by_slope = (
        point.value <= start.value + rounding
        and point.slope <= (2 * SUFFICIENT_DECREASE - 1) * start.slope
    )
    return _decreases(point, start) or by_slope


def _next_step(low: Point, high: Point | None) -> float:
    """Extrapolate while nothing brackets the minimum, else interpolate inside the bracket."""
    if high is None:
        return low.step * GROWTH
    width = high.step - low.step
    step = _cubic_minimum(low, high) if high.is_finite else low.step + 0.1 * width
    # Stay a tenth of the bracket away from its ends, or it may shrink from one side for ever.
    nearest, farthest = sorted((low.step + 0.1 * width, high.step - 0.1 * width))
    return min(max(step, nearest), farthest) if isfinite(step) else low.step + 0.5 * width


def _cubic_minimum(a: Point, b: Point) -> float:
    """Minimiser of the cubic through two values and two slopes, Nocedal & Wright (3.59)."""
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    discriminant = d1 * d1 - a.slope * b.slope
    if discriminant < 0:
        return float("nan")
    d2 = sqrt(discriminant) * (1.0 if b.step > a.step else -1.0)
    denominator = b.slope - a.slope + 2 * d2
    if denominator == 0:
        return float("nan")
    return b.step - (b.step - a.step) * (b.slope + d2 - d1) / denominator
