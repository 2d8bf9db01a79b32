"""scikit-learn on CuPy in a process of its own, where SCIPY_ARRAY_API is set before scipy loads."""

from __future__ import annotations

import multiprocessing
import os
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from accel.backends import get_backend
from accel.benchmark.cases import (
    FitCase,
)

VARIABLE = "SCIPY_ARRAY_API"


class Fitted(NamedTuple):
    """What a fit came to, on the host.

    Parameters
    ----------
    coef_, intercept_, n_iter_ : ndarray
        As scikit-learn has them.
    """

    coef_: Any
    intercept_: Any
    n_iter_: Any


def in_array_api_process(case: FitCase) -> Callable[[], Fitted]:
    """A full fit by scikit-learn's lbfgs on CuPy arrays, ready to be called again and again.

    Parameters
    ----------
    case : FitCase
        Its data is on the GPU before the first call.

    Returns
    -------
    callable
        () -> Fitted. What the processes say to each other takes a tenth of a millisecond.

    Raises
    ------
    RuntimeError
        From the call, with what went wrong in the other process.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, case), daemon=True)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1"
    try:
        process.start()
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
    there.close()

    def ask() -> Any:
        here.send(None)
        answer = here.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    weakref.finalize(ask, here.close)
    ask()  # the data is there
    return ask


def _serve(connection: Any, case: FitCase) -> None:
    """In the other process: fit whenever it is asked for, until nobody asks any more."""
    try:
        import sklearn
        from sklearn.linear_model import LogisticRegression

        cupy = get_backend("cupy").cupy  # type: ignore[attr-defined]
        X, y = (cupy.asarray(part) for part in case.data)
        model = LogisticRegression(C=case.C, tol=case.tol, max_iter=10_000, solver="lbfgs")
        connection.recv()
        connection.send(None)
        while True:
            connection.recv()
            with sklearn.config_context(array_api_dispatch=True):
                model.fit(X, y)
                arrays = (model.coef_, model.intercept_, model.n_iter_)
                connection.send(Fitted(*(cupy.asnumpy(array) for array in arrays)))
    except EOFError:
        return
    except Exception as error:
        connection.send(f"scikit-learn on CuPy: {type(error).__name__}: {error}")
