"""accel: linear and small neural models, the same numbers on a CPU and on an NVIDIA GPU.

The public names are the estimators, `open_data`, `get_backend` and `list_backends`
(also as a call of the folder, `accel.backends()`). Data flows one way:
backends | losses -> network -> objective -> stack -> solvers -> estimators -> train, tutorial
-> cli, and a module imports only from its left.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel import backends
    from accel.backends import BackendReport, BackendUnavailable, get_backend, list_backends
    from accel.estimators import (
        LogisticRegression,
        LogisticRegressionCV,
        MLPClassifier,
        MLPRegressor,
        logistic_path,
    )
    from accel.solvers import Status
    from accel.sources import open_data

__all__ = [
    "BackendReport",
    "BackendUnavailable",
    "LogisticRegression",
    "LogisticRegressionCV",
    "MLPClassifier",
    "MLPRegressor",
    "Status",
    "backends",
    "get_backend",
    "list_backends",
    "logistic_path",
    "open_data",
]
__version__ = "0.1.0"

# Where each name is from: it is imported when it is asked for, so that `import accel` and the
# command line start at once.
_HOMES = {
    "backends": ("BackendReport", "BackendUnavailable", "get_backend", "list_backends"),
    "estimators": (
        "LogisticRegression",
        "LogisticRegressionCV",
        "MLPClassifier",
        "MLPRegressor",
        "logistic_path",
    ),
    "solvers": ("Status",),
    "sources": ("open_data",),
}


def __getattr__(name: str) -> Any:
    """A public name, or a module of the package, imported now."""
    if name.startswith("__"):
        raise AttributeError(name)
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is not None:
        found = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = found
        return found
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    """The public names."""
    return [*globals(), *__all__]
