"""The timer: rounds after a warm-up, every sample kept; the call itself waits for the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

SETTLE_S = 0.05  # BLAS threads of the contender before spin for a while


def rounds_for(once_s: float, budget_s: float) -> int:
    """Rounds that fit a budget, given the time of one: at least 3, at most 31."""
    return int(min(31, max(3, budget_s / max(once_s, 1e-6))))


def first_call(call: Callable[[], Any]) -> tuple[Any, float]:
    """Result and seconds of the first call, compilation included."""
    time.sleep(SETTLE_S)
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def samples(call: Callable[[], Any], budget_s: float) -> list[float]:
    """Seconds of each round, after one more warm-up.

    Parameters
    ----------
    call : callable
        Ends when its result is there.
    budget_s : float
        Seconds to spend, about.

    Returns
    -------
    list of float
        One for each round.
    """
    _, once_s = first_call(call)
    found = []
    for _ in range(rounds_for(once_s, budget_s)):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return found


def summary(found: list[float]) -> dict[str, Any]:
    """Median, quartiles and number of rounds."""
    low, median, high = np.percentile(found, [25, 50, 75])
    return {
        "median_s": float(median),
        "iqr_s": float(high - low),
        "fastest_s": float(min(found)),
        "rounds": len(found),
    }
