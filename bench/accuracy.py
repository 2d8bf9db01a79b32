"""What a network of a stated configuration learns of real images, beside the linear model."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from accel import LogisticRegression, MLPClassifier
from accel.benchmark.needs import open_backend
from accel.datasets import Dataset, load_digits
from accel.estimators.prediction import raw_prediction
from accel.network import Network
from accel.solvers.epochs import EpochProgress
from bench.suite import sign_digits

Array = Any
SIGN_NETWORK: dict[str, Any] = {
    "hidden_layer_sizes": (512, 256),
    "center": True,
    "dropout": 0.5,
    "alpha": 0.5,
    "batch_size": 64,
    "learning_rate": "cosine",
    "max_iter": 100,
    "n_iter_no_change": np.inf,
    "random_state": 0,
}


@dataclass(frozen=True)
class AccuracyCase:
    """A network to be trained on some rows of real data and judged on the others.

    Parameters
    ----------
    name : str
        Of the data.
    load : callable
        () -> the data; `Absent` where it is not.
    network : dict
        Arguments of `accel.MLPClassifier`.
    test_size : float
        Share of the rows held out.
    seed : int
        Of the split.
    least : float
        Accuracy on the rows held out below which a row does not count.
    """

    name: str
    load: Callable[[], Dataset]
    network: dict[str, Any]
    test_size: float
    seed: int
    least: float

    def __str__(self) -> str:
        return self.name

    @cached_property
    def data(self) -> tuple[Array, Array, Array, Array]:
        """X_train, X_test, y_train, y_test."""
        data = self.load()
        return train_test_split(  # type: ignore[no-any-return]
            data.X, data.y, test_size=self.test_size, random_state=self.seed
        )


class _Judge:
    """Accuracy on the rows held out after every epoch, and the seconds that judging took."""

    def __init__(self, case: AccuracyCase, model: MLPClassifier, backend: Any) -> None:
        X, X_test, y, self._y = case.data
        self._labels, self._backend = np.unique(y), backend
        hidden = tuple(np.atleast_1d(model.hidden_layer_sizes))
        self._network = Network(X.shape[1], len(self._labels), hidden, model.activation)
        with backend.context():
            self._X = backend.asarray(X_test)
            self._scale = backend.asarray(self._network.input_scale(model.input_scale))
        self.accuracy: list[float] = []
        self.seconds = 0.0

    def __call__(self, progress: EpochProgress) -> None:
        started, backend = time.perf_counter(), self._backend
        params = progress.params()
        params = params * backend.xp.astype(self._scale, params.dtype)
        raw = raw_prediction(self._network, params, self._X, xp=backend.xp)
        best = backend.to_numpy(raw).argmax(axis=1)
        self.accuracy.append(float(np.mean(self._labels[best] == self._y)))
        self.seconds += time.perf_counter() - started


def accuracy_row(case: AccuracyCase, backend_name: str) -> dict[str, Any]:
    """Train once: the learning curve, the accuracy, and that of the linear model's defaults.

    Parameters
    ----------
    case : AccuracyCase
        Data and network.
    backend_name : str
        Where.

    Returns
    -------
    dict
        The row; seconds are those of the training without the judging.
    """
    backend = open_backend(backend_name)
    X, X_test, y, y_test = case.data
    model = MLPClassifier(**case.network, backend=backend_name)
    judge = _Judge(case, model, backend)
    linear = LogisticRegression(backend=backend_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that all epochs are used is what the row says
        started = time.perf_counter()
        model.set_params(callback=judge).fit(X, y)
        seconds = time.perf_counter() - started - judge.seconds
        linear.fit(X, y)
    accuracy = float(model.score(X_test, y_test))
    return {
        "kind": "accuracy", "case": str(case), "contender": f"accel {backend_name}",
        "dtype": str(X.dtype), "shape": [*X.shape, len(model.classes_)],
        "configuration": case.network, "epochs": model.n_iter_, "ending": model.status_.name,
        "seconds": seconds, "accuracy": accuracy,
        "linear_accuracy": float(linear.score(X_test, y_test)),
        "curve": {"loss": model.loss_curve_, "accuracy": judge.accuracy},
        "valid": accuracy >= case.least,
    }  # fmt: skip


DIGITS = AccuracyCase("digits", load_digits, {"random_state": 0}, test_size=0.2, seed=0, least=0.97)
SIGNS = AccuracyCase("sign digits", sign_digits, SIGN_NETWORK, test_size=0.15, seed=42, least=0.80)
