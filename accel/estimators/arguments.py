"""Checks of constructor arguments: one sentence that names the argument and says what to do."""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

FLOAT32_RANGE = (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max))


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    finite: bool = False,
) -> float:
    """A real number in its range; NaN is in none."""
    bounds = [
        f"above {above}" if above is not None else f"at least {at_least}",
        *(["finite"] if finite else []),
    ]
    try:
        number = float(value) if isinstance(value, Real) else float("nan")
    except OverflowError:
        number = float("nan")
    good = number > above if above is not None else number >= (at_least or 0.0)
    if isinstance(value, bool) or not good or (finite and not isfinite(number)):
        raise ValueError(f"{name}={value!r} must be a number {' and '.join(bounds)}.")
    return number


def check_input_scale(value: Any) -> float:
    """A positive factor of X that float32 can hold."""
    scale = check_number("input_scale", value, above=0, finite=True)
    if not FLOAT32_RANGE[0] <= scale <= FLOAT32_RANGE[1]:
        raise ValueError(f"input_scale={scale} is beyond float32: scale X itself.")
    return scale


def check_count(name: str, value: Any) -> int:
    """An integer that is at least 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name}={value!r} must be an integer, 0 or more.")
    return int(value)


def check_positive(name: str, value: Any) -> int:
    """An integer that is at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be an integer, 1 or more.")
    return int(value)


def check_flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r} must be True or False.")
    return bool(value)


def check_folder(name: str, value: Any) -> Path | None:
    """The path of a folder, or None."""
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"{name}={value!r} must be the path of a folder, or None.")
    return Path(value)


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """One of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}.")
    return value
