"""The main job: data -> split -> fit -> report, with the time of each stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accel import plots
from accel.backends import get_backend
from accel.datasets import DataError, Dataset
from accel.disk import prepare_folder, write_atomically
from accel.estimators import LogisticRegression, MLPClassifier
from accel.estimators.account import Stages
from accel.files import save_model
from accel.solvers import Status

SHARED = {name: name for name in ("solver", "backend", "max_iter", "tol")}


@dataclass(frozen=True)
class Model:
    """A model of the command line.

    Parameters
    ----------
    estimator : type
        Its class.
    options : mapping of str
        Options of the command line that it takes -> its arguments.
    takes_seed : bool
        Whether anything in it is random.
    """

    estimator: Any
    options: Mapping[str, str]
    takes_seed: bool = False


MODELS = {
    "logistic": Model(
        LogisticRegression,
        {**SHARED, "C": "C", "l1_ratio": "l1_ratio", "learning_rate": "learning_rate"},
    ),
    "mlp": Model(
        MLPClassifier,
        {
            **SHARED,
            "learning_rate": "learning_rate_init",
            "hidden": "hidden_layer_sizes",
            "checkpoint": "checkpoint",
            "every": "checkpoint_every",
            **{
                name: name
                for name in ("activation", "alpha", "batch_size", "dropout", "early_stopping",
                             "initialization", "precision", "center")
            },
            "schedule": "learning_rate",
        },
        takes_seed=True,
    ),
}  # fmt: skip


def build(name: str, given: Mapping[str, Any], seed: int) -> Any:
    """The estimator that a command line asks for.

    Parameters
    ----------
    name : str
        Key of `MODELS`.
    given : mapping of str
        Options that were given; None for those that were not.
    seed : int
        Of what is random.

    Returns
    -------
    LogisticRegression or MLPClassifier
        Not yet fitted.

    Raises
    ------
    ValueError
        If there is no such model, or it does not take an option.
    """
    if name not in MODELS:
        raise ValueError(f"model={name!r} must be one of {', '.join(MODELS)}.")
    model, arguments = MODELS[name], {}
    for option, value in given.items():
        if value is None:
            continue
        if option not in model.options:
            takers = ", ".join(other for other in MODELS if option in MODELS[other].options)
            raise ValueError(f"{option}={value!r} is an option of --model {takers}, not {name}.")
        arguments[model.options[option]] = value
    if given.get("every") is not None and given.get("checkpoint") is None:
        raise ValueError(f"every={given['every']!r} does nothing without --checkpoint DIR.")
    if model.takes_seed:
        arguments["random_state"] = seed
    return model.estimator(**arguments)


@dataclass(frozen=True)
class Trained:
    """A fitted model and how it does on rows it has not seen.

    Parameters
    ----------
    model : LogisticRegression or MLPClassifier
        Fitted.
    n_train, n_test : int
        Rows.
    train_accuracy, test_accuracy : float
        Shares of rows whose label is predicted.
    labels : list of str
        Names of the classes.
    confusion : ndarray (n_classes, n_classes)
        Test rows: true label down, predicted label across.
    report : str
        scikit-learn's classification report.
    files : dict
        What was written, by name.
    """

    model: Any
    n_train: int
    n_test: int
    train_accuracy: float
    test_accuracy: float
    labels: list[str]
    confusion: Any
    report: str
    files: dict[str, Path]


def train(
    data: Dataset,
    model: Any,
    out: Path,
    stages: Stages,
    *,
    test_size: float,
    seed: int,
) -> Trained:
    """Split, fit, judge, and write the model and the pictures.

    Parameters
    ----------
    data : Dataset
        With labels.
    model : LogisticRegression or MLPClassifier
        Not yet fitted.
    out : Path
        Folder for model.npz, cost.png, confusion.png and report.txt.
    stages : Stages
        Takes the seconds of open backend, transfer, train, predict and write.
    test_size : float
        Share of the rows held out, between 0 and 1.
    seed : int
        Of the split.

    Returns
    -------
    Trained
        The model and its figures.

    Raises
    ------
    DataError
        If there are no labels, or too few rows to split.
    """
    from sklearn.metrics import classification_report, confusion_matrix

    prepare_folder(out)
    X_train, X_test, y_train, y_test = split(data, test_size=test_size, seed=seed)
    with stages("open backend"):
        backend = get_backend(model.backend)
    with stages("transfer"):
        X_train = backend.asarray(X_train)
        backend.synchronize()
    with stages("train"):
        _fit(model, X_train, y_train)
    files = {name: out / name for name in ("model.npz", "cost.png", "confusion.png", "report.txt")}
    # first of all: whatever fails later, the fit is kept
    save_model(model, files["model.npz"], feature_names=data.feature_names)
    with stages("predict"):
        predicted = model.predict(X_test)
        train_accuracy = model.score(X_train, y_train)
    classes = np.unique(np.concatenate([model.classes_, y_test]))  # a test label may be new
    labels = [str(label) for label in classes]
    matrix = confusion_matrix(y_test, predicted, labels=classes)
    report: str = classification_report(
        y_test, predicted, labels=classes, target_names=labels, zero_division=0.0
    )
    with stages("write"):
        by_epochs = "epoch" in model.account_.passes
        title = "Mean loss of each epoch" if by_epochs else "Objective before each update"
        unit = "epoch" if by_epochs else "iteration"
        plots.cost_curve(files["cost.png"], model.loss_curve_, title, x_label=unit)
        plots.confusion(files["confusion.png"], matrix, labels)
        write_atomically(files["report.txt"], lambda file: file.write(report.encode()))
    return Trained(
        model=model,
        n_train=len(y_train),
        n_test=len(y_test),
        train_accuracy=train_accuracy,
        test_accuracy=float(np.mean(predicted == y_test)),
        labels=labels,
        confusion=matrix,
        report=report,
        files=files,
    )


def _fit(model: Any, X: Any, y: Any) -> None:
    """Fit; Ctrl-C ends it early and keeps what it has learned, if anything."""
    try:
        model.fit(X, y)
    except KeyboardInterrupt:
        if vars(model).get("status_") is not Status.INTERRUPTED or not len(model.loss_curve_):
            raise


def split(data: Dataset, *, test_size: float, seed: int) -> Any:
    """Training and test rows, as scikit-learn's train_test_split cuts them.

    Parameters
    ----------
    data : Dataset
        With labels.
    test_size : float
        Share of the rows held out, between 0 and 1.
    seed : int
        Of the split.

    Returns
    -------
    list of ndarray
        X_train, X_test, y_train, y_test.

    Raises
    ------
    DataError
        If there are no labels, or too few rows to split.
    """
    from sklearn.model_selection import train_test_split

    if data.y is None:
        raise DataError(f"{data.name} has no labels: put Y.npy beside it or name a target.")
    if not 0 < test_size < 1:
        raise DataError(f"test-size={test_size} must lie between 0 and 1.")
    if len(np.unique(data.y)) < 2:
        raise DataError(f"{data.name}: the target holds only one class, at least two are needed.")
    if len(data.X) < 3:
        raise DataError(f"{data.name} has {len(data.X)} rows: at least 3 are needed for a split.")
    return train_test_split(data.X, data.y, test_size=test_size, random_state=seed)
