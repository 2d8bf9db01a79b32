"""The cases: a pass, a full fit, a prediction, a training by batches, on data of a stated shape."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

Array = Any
# Largest relative error of a training's loss that still counts as the same training, by the
# precision of its products (measured: 0, 2e-7, 4e-3, 1.4e-2); and with batches of its own.
LARGEST_LOSS_ERROR = {"float64": 1e-6, "float32": 1e-3, "tf32": 1e-2, "bfloat16": 5e-2}
LARGEST_OTHER_BATCHES_ERROR = 5e-2


@dataclass(frozen=True)
class FitCase:
    """A full fit of logistic regression to a stated objective.

    Parameters
    ----------
    name : str
        Of the data.
    load : callable
        () -> X, y with labels 0..n_classes-1.
    minimum : float
        The objective at the optimum, in float64; a test finds it again with scikit-learn.
    C : float
        Inverse strength of the penalty.
    tol : float
        The max|gradient| asked for.
    gap : float
        Relative distance to the minimum beyond which a fit does not count.
    """

    name: str
    load: Callable[[], tuple[Array, Array]]
    minimum: float
    C: float = 1.0
    tol: float = 1e-4
    gap: float = 1e-2

    def __str__(self) -> str:
        return self.name

    @cached_property
    def data(self) -> tuple[Array, Array]:
        """X and y."""
        return self.load()

    def objective(self, coef: Array, intercept: Array) -> float:
        """Scikit-learn's objective of these coefficients, in float64 NumPy."""
        X, y = self.data
        z = X @ np.asarray(coef, dtype=np.float64).T + intercept
        z = np.hstack([np.zeros_like(z), z]) if z.shape[1] == 1 else z
        z = z - z.max(axis=1, keepdims=True)
        loss = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y]
        penalty = np.sum(np.square(coef, dtype=np.float64)) / (2 * self.C * len(z))
        return float(loss.mean() + penalty)

    def gap_of(self, coef: Array, intercept: Array) -> float:
        """How far above the minimum, as a fraction of it."""
        return self.objective(coef, intercept) / self.minimum - 1


@dataclass(frozen=True)
class LessonCase:
    """The lesson's fit: full-batch gradient descent on 348 images of 64 x 64, two classes.

    Parameters
    ----------
    n_iter : int
        Updates.
    learning_rate : float
        Step.
    """

    n_iter: int = 200
    learning_rate: float = 0.009

    def __str__(self) -> str:
        return f"lesson 348 x 4096, {self.n_iter} updates"

    @cached_property
    def data(self) -> tuple[Array, Array]:
        """Grey images in float32, as the lesson's files hold them: smooth shapes, two kinds."""
        rng = np.random.default_rng(0)
        y = rng.integers(0, 2, 348)
        grid = np.linspace(-1, 1, 64)
        centre = rng.normal(0, 0.2, (348, 2)) + 0.3 * (2 * y[:, None] - 1)
        distance = (grid[:, None] - centre[:, :1, None]) ** 2 + (grid - centre[:, 1:, None]) ** 2
        X = 0.9 - 0.6 * np.exp(-4 * distance) + 0.05 * rng.random((348, 64, 64))
        return X.reshape(348, -1).astype(np.float32), y


@dataclass(frozen=True)
class CVCase:
    """C chosen by cross-validation, on scikit-learn's digits as they come, pixels 0 to 16.

    Parameters
    ----------
    n_Cs, n_folds : int
        The grid.
    score : float
        Best mean accuracy of the folds at the optimum, found with tol 1e-8.
    gap : float
        Distance to it beyond which a run does not count.
    """

    n_Cs: int = 20
    n_folds: int = 5
    score: float = 0.92824
    gap: float = 2e-3

    def __str__(self) -> str:
        return f"digits 1797 x 64, 10 classes, {self.n_Cs} C x {self.n_folds} folds"

    @cached_property
    def data(self) -> tuple[Array, Array]:
        """X and y."""
        X, y = _digits()
        return 16 * X, y


@dataclass(frozen=True)
class TrainingCase:
    """A classifier's network trained by batches with Adam for some epochs, rows in random order.

    Parameters
    ----------
    layers : tuple of int
        Widths, of the input first and of the classes last; relu between them.
    batch_size : int
        Rows of a batch.
    n_epochs : int
        So many that what a fit prepares is small beside them.
    load : callable
        () -> X, y with labels 0..n_classes-1.
    dtype : str, default="float32"
        Of X and of the arithmetic, "float32" or "float64".
    """

    layers: tuple[int, ...]
    batch_size: int
    n_epochs: int
    load: Callable[[], tuple[Array, Array]]
    dtype: str = "float32"

    def __str__(self) -> str:
        widths = "-".join(str(width) for width in self.layers)
        return f"{widths} {self.dtype}, batch {self.batch_size}"

    @cached_property
    def data(self) -> tuple[Array, Array]:
        """X and y."""
        X, y = self.load()
        return X.astype(self.dtype, copy=False), y

    @property
    def n_rows(self) -> int:
        """Rows that all epochs together train on."""
        return self.n_epochs * len(self.data[1])

    @property
    def flops(self) -> int:
        """Floating point operations of the products of all epochs; the first layer has two."""
        weights = [rows * columns for rows, columns in pairwise(self.layers)]
        return self.n_rows * (6 * sum(weights) - 2 * weights[0])

    @property
    def arguments(self) -> dict[str, Any]:
        """What accel's and scikit-learn's MLPClassifier are both given: the same start, batches."""
        return {
            "hidden_layer_sizes": self.layers[1:-1], "activation": "relu", "solver": "adam",
            "alpha": 1e-4, "batch_size": self.batch_size, "learning_rate_init": 1e-3,
            "shuffle": True, "random_state": 0, "tol": 0.0, "n_iter_no_change": float("inf"),
        }  # fmt: skip

    @cached_property
    def reference(self) -> float:
        """Mean loss of the last epoch of scikit-learn's training, in float64."""
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(**self.arguments, max_iter=self.n_epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it ends at max_iter
            return float(model.fit(self.data[0].astype(np.float64), self.data[1]).loss_)


class Trained(NamedTuple):
    """What a training came to.

    Parameters
    ----------
    loss : float
        Mean loss of the last epoch, while it ran.
    precision : str
        Of the products, a key of `LARGEST_LOSS_ERROR`.
    same_batches : bool, default=True
        Whether the batches are scikit-learn's.
    """

    loss: float
    precision: str
    same_batches: bool = True

    def error(self, case: TrainingCase) -> float:
        """Relative difference to the loss of the reference."""
        return abs(self.loss / case.reference - 1)

    def is_valid(self, case: TrainingCase) -> bool:
        """Whether it trained what was asked for; a loss of NaN did not."""
        same = LARGEST_LOSS_ERROR[self.precision]
        return self.error(case) <= (same if self.same_batches else LARGEST_OTHER_BATCHES_ERROR)


def drawn_rows(n_samples: int, n_features: int, n_classes: int) -> tuple[Array, Array]:
    """Random rows in float32, labelled by a random linear model, so that there is a lot to learn.

    Parameters
    ----------
    n_samples, n_features, n_classes : int
        Shape.

    Returns
    -------
    X : ndarray (n_samples, n_features)
        From 0 to 1.
    y : ndarray (n_samples,)
        Labels from 0.
    """
    rng = np.random.default_rng(0)
    X = rng.random((n_samples, n_features), dtype=np.float32)
    return X, ((X - 0.5) @ rng.normal(size=(n_features, n_classes))).argmax(axis=1)


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X / 16, y


def _iris() -> tuple[Array, Array]:
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    return X, y


def _wide() -> tuple[Array, Array]:
    X, y = LessonCase().data
    return X.astype(np.float64), y


def _tall() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200_000, 50))
    z = X @ rng.normal(size=50) / 4
    return X, (rng.random(len(z)) < 1 / (1 + np.exp(-z))).astype(np.int64)


FITS = (
    FitCase("iris 150 x 4", _iris, 0.1925754440237),
    FitCase("digits 1797 x 64, 10 classes", _digits, 0.1995264038586),
    FitCase("images 348 x 4096", _wide, 0.0314330965215),
    FitCase("tall 200000 x 50", _tall, 0.4692910182086),
)
TRAININGS = (
    TrainingCase((784, 256, 128, 10), 256, 3, partial(drawn_rows, 20_480, 784, 10)),
    TrainingCase((64, 100, 10), 200, 20, _digits, "float64"),  # where calls cost most of the time
)
