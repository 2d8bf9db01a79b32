"""Kernels held against the formulas at their first use in a process, as the device itself was."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.backends.base import first_line

if TYPE_CHECKING:
    from accel.backends import Backend
    from accel.backends.linear_model import LinearPass
    from accel.passes import FormulaPass

Array = Any
# Rows that are looked at, as many as fill the blocks of a GPU and are soon computed on the host.
CHECKED_ROWS, CHECKED_BYTES = 4099, 32 << 20
LARGEST_ERROR = 1e-3  # float32 is at 1e-6, what is wrong is at 1e-1
CHECKED_RIDGE = 0.01
SMALLEST, LARGEST = 1e-300, 1e30  # of what is divided by, and of a parameter that float32 holds
_PROVEN: dict[tuple[str, str], bool] = {}


def proven(kernel: str, error: Callable[[], float], backend: Backend) -> bool:
    """Whether a kernel gives what its formula gives; where not, said aloud, once.

    Parameters
    ----------
    kernel : str
        Its name, its layout and what it computes: what one proof holds for.
    error : callable
        () -> relative error on a few rows; raises where the kernel does not run.
    backend : Backend
        Of the device.

    Returns
    -------
    bool
        Known from before where the same kernel was proven before.

    Raises
    ------
    Exception
        The backend's own, where its memory runs out.

    Warns
    -----
    RuntimeWarning
        Where it is wrong or does not run: the formula runs then.
    """
    key = (backend.name, kernel)
    if key not in _PROVEN:
        try:
            found = error()
            what = f"is off by {found:.1g}" if not found <= LARGEST_ERROR else ""
        except Exception as refusal:
            if backend.is_out_of_memory(refusal):
                raise
            what = f"does not run ({first_line(refusal)})"
        if what:
            warnings.warn(
                f"accel's kernel {kernel} {what} on {backend.name}: the formulas run instead, more "
                "slowly. Please report it with the output of accel backends.",
                RuntimeWarning,
                stacklevel=2,
            )
        _PROVEN[key] = not what
    return _PROVEN[key]


def is_right(
    what: str, one: LinearPass, formula: FormulaPass, X: Array, Y: Array, backend: Backend
) -> bool:
    """Whether a backend's pass gives what the formula gives, on the first rows of X.

    Parameters
    ----------
    what : {"gradient", "curvature"}
        Of its two kernels the one that is to be proven: value and gradient, or curvatures.
    one : LinearPass
        The pass.
    formula : FormulaPass
        What it computes.
    X, Y : array (n, n_in), (n, 1 or n_out)
        Rows and targets on the device.
    backend : Backend
        Of the device.

    Returns
    -------
    bool
        Known from before where the same kernel was proven before.
    """
    if what == "curvature":
        return proven(
            f"{what}, {one.kernel_of(X)}",
            lambda: _curvature_error(one, formula, X, backend),
            backend,
        )
    return proven(one.kernel_of(X), lambda: _gradient_error(one, formula, X, Y, backend), backend)


def checked_rows(X: Array) -> slice:
    """The first rows of X: those that a proof looks at."""
    return slice(0, min(X.shape[0], CHECKED_ROWS, max(1, CHECKED_BYTES // (8 * X.shape[1]))))


def relative(found: Any, wanted: Any) -> float:
    """Relative error of NumPy arrays, in the Euclidean norm."""
    # in units of the largest, whose square neither over- nor underflows
    unit = max(float(np.max(np.abs(wanted), initial=0.0)), SMALLEST)
    missed = np.linalg.norm(np.asarray(found, dtype=np.float64) / unit - wanted / unit)
    return float(missed) / max(float(np.linalg.norm(wanted / unit)), SMALLEST)


def _gradient_error(
    one: LinearPass, formula: FormulaPass, X: Array, Y: Array, backend: Backend
) -> float:
    """The larger relative error of value and gradient, with weights and a penalty."""
    rows, few, oracle, params = _sides(formula, X, backend)
    targets = backend.to_numpy(Y[rows, ...])
    s, ridge = np.full(len(few), 1 / len(few)), np.full(len(params), CHECKED_RIDGE)
    on_device = (backend.asarray(array, dtype=formula.dtype) for array in (params, s, ridge))
    there, weights, shrink = on_device
    got = one(there, X[rows, :], Y[rows, ...], weights, shrink)
    wanted = oracle(params, few, targets, s, ridge)
    pairs = zip(got, wanted, strict=True)
    return max(relative(backend.to_numpy(found), right) for found, right in pairs)


def _curvature_error(one: LinearPass, formula: FormulaPass, X: Array, backend: Backend) -> float:
    """The relative error of the curvatures."""
    rows, few, oracle, params = _sides(formula, X, backend)
    got = one.curvature(backend.asarray(params, dtype=formula.dtype), X[rows, :])
    return relative(backend.to_numpy(got), oracle.curvature(params, few))


def _sides(formula: FormulaPass, X: Array, backend: Backend) -> tuple[slice, Any, FormulaPass, Any]:
    """Rows, the same on the host, the oracle, and parameters with raw predictions of about one."""
    rows = checked_rows(X)
    few = backend.to_numpy(X[rows, :]).astype(np.float64)
    shape = np.sin(np.arange(1.0, formula.n_params + 1))
    factor = 1.0 if formula.scale is None else float(np.abs(backend.to_numpy(formula.scale)).max())
    unit = max(float(np.max(np.abs(few), initial=0.0)), SMALLEST)
    lengths: Any = np.sqrt(np.sum((few / unit) ** 2, axis=1))
    size = factor * unit * float(lengths.max())
    with np.errstate(over="ignore"):
        params = np.clip(shape / size, -LARGEST, LARGEST) if size > 0 else shape
    return rows, few, formula.on_host(backend.to_numpy), params
