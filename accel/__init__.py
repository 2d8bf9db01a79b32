"""accel: linear and small neural models, the same numbers on a CPU and on an NVIDIA GPU.

The public names are the estimators, `open_data`, `get_backend` and `list_backends`
(also as a call of the folder, `accel.backends()`). Data flows one way:
backends | losses -> network -> objective -> stack -> solvers -> estimators -> train, tutorial
-> cli, and a module imports only from its left.
"""

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
