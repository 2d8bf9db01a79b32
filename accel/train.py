"""The main job: data -> split -> fit -> report, with the time of each stage."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from accel.backends import get_backend
from accel.datasets import DataError, Dataset, load, whole
from accel.disk import prepare_folder
from accel.estimators import LogisticRegression, MLPClassifier
from accel.estimators.account import Stages
from accel.files import check_storable
from accel.held_out import held_out
from accel.solvers import Status
from accel.sources import Data, open_data
from accel.written import MODEL, drawn, kept, set_aside

Array = Any
SHARED = {name: name for name in ("solver", "backend", "max_iter", "tol")}
KEPT = {"checkpoint": "checkpoint", "every": "checkpoint_every"}
COPIES = 3  # of X that training in memory takes: X itself, its two parts, and one in between


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
        {**SHARED, **KEPT, "C": "C", "l1_ratio": "l1_ratio", "learning_rate": "learning_rate",
         "placement": "placement"},
    ),
    "mlp": Model(
        MLPClassifier,
        {
            **SHARED,
            **KEPT,
            "learning_rate": "learning_rate_init",
            "hidden": "hidden_layer_sizes",
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


def open_or_load(
    path: Path,
    target: str | None,
    weight: str | None,
    placement: str | None,
    *,
    header: bool = True,
) -> Dataset | Data:
    """Data in memory if it has room there, else on disk, to be read block by block.

    Parameters
    ----------
    path : Path
        As `accel.datasets.load` takes it.
    target, weight : str or None
        Where labels and weights are.
    placement : {"auto", "resident", "stream"} or None
        "stream" leaves the rows on disk, "resident" loads them.
    header : bool, default=True
        Whether the first row of a .csv file holds the names of its columns.

    Returns
    -------
    Dataset or Data
        The first in memory, the second on disk.

    Raises
    ------
    DataError
        If the data cannot be used.
    """
    if path.suffix.lower() == ".npz":
        return load(path, target, weight)
    data = open_data(path, target=target, weight=weight, header=header)
    n_bytes = data.X.shape[0] * data.X.shape[1] * data.X.dtype.itemsize
    has_room = COPIES * n_bytes <= get_backend("numpy").free_bytes()
    is_loaded = {"resident": True, "stream": False}.get(placement or "auto", has_room)
    return whole(data) if is_loaded else data


def train(
    data: Dataset | Data,
    model: Any,
    out: Path,
    stages: Stages,
    *,
    test_size: float,
    seed: int,
    scheduler: str | None = None,
) -> Trained:
    """Split, fit, judge, and write the model and the pictures.

    Parameters
    ----------
    data : Dataset or Data
        With labels, in memory or on disk.
    model : LogisticRegression or MLPClassifier
        Not yet fitted; data on disk is for the first.
    out : Path
        Folder for model.npz, cost.png, confusion.png and report.txt. A model that is there is
        renamed.
    stages : Stages
        Takes the seconds of open backend, transfer, train, predict and write.
    test_size : float
        Share of the rows held out, between 0 and 1.
    seed : int
        Of the split.
    scheduler : str, optional
        Address of a dask scheduler, on whose workers data on disk is fitted.

    Returns
    -------
    Trained
        The model and its figures.

    Raises
    ------
    DataError
        If there are no labels, or too few rows to split.
    """
    prepare_folder(out)
    set_aside(out / MODEL)  # one that is read-only is refused before the fit
    if data.y is not None:
        check_storable(np.unique(data.y))  # a model that cannot be written is not fitted
    train_rows, test_rows = split(data, test_size=test_size, seed=seed)
    parts = held_out(data, train_rows, test_rows, scheduler)
    parts.check(model.backend, stages)
    with stages("train"):
        _fit(model, parts)
    stages.seconds["of it transfer"] = model.account_.seconds.get("transfer", 0.0)
    # first of all: whatever fails later, the fit is kept
    place = kept(model, out, data.feature_names)
    with stages("predict"):
        on_train, on_test = parts.predictions(model)
    trained = _judged(model, data.y, (train_rows, on_train), (test_rows, on_test))
    with stages("write"):
        pictures = drawn(trained, out)
    files = {} if place is None else {MODEL: place}
    return replace(trained, files=files | pictures)


def _judged(
    model: Any,
    y: Array,
    train: tuple[Array, Array],
    test: tuple[Array, Array],
) -> Trained:
    """Figures, from places and predicted labels of both parts."""
    from sklearn.metrics import classification_report, confusion_matrix

    (train_rows, on_train), (test_rows, on_test) = train, test
    y_test = y[test_rows]
    classes = np.unique(np.concatenate([model.classes_, y_test]))  # a test label may be new
    labels = [str(label) for label in classes]
    matrix = confusion_matrix(y_test, on_test, labels=classes)
    report: str = classification_report(
        y_test, on_test, labels=classes, target_names=labels, zero_division=0.0
    )
    return Trained(
        model=model,
        n_train=len(train_rows),
        n_test=len(test_rows),
        train_accuracy=float(np.mean(on_train == y[train_rows])),
        test_accuracy=float(np.mean(on_test == y_test)),
        labels=labels,
        confusion=matrix,
        report=report,
        files={},
    )


def _fit(model: Any, parts: Any) -> None:
    """Fit; Ctrl-C ends it early and keeps what it has learned, if anything."""
    try:
        parts.fit(model)
    except KeyboardInterrupt:
        if vars(model).get("status_") is not Status.INTERRUPTED or not len(model.loss_curve_):
            raise


def split(data: Dataset | Data, *, test_size: float, seed: int) -> tuple[Array, Array]:
    """Training and test rows, in which every class has its share.

    As scikit-learn's train_test_split cuts them with ``stratify=y``; the rows of a class that has
    but one, which cannot be shared out, are trained on.

    Parameters
    ----------
    data : Dataset or Data
        With labels.
    test_size : float
        Share of the rows held out, between 0 and 1.
    seed : int
        Of the split.

    Returns
    -------
    train : ndarray of int
        Places of the rows to learn from.
    test : ndarray of int
        Places of those held out.

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
    n = len(data.y)
    if n < 3:
        raise DataError(f"{data.name} has {n} rows: at least 3 are needed for a split.")
    _, index, counts = np.unique(data.y, return_inverse=True, return_counts=True)
    single = counts[index] == 1
    shared, n_classes = np.flatnonzero(~single), int(np.sum(counts > 1))
    has_shares = min(test_size, 1 - test_size) * len(shared) >= n_classes >= 1
    if single.any() or not has_shares:
        warnings.warn(_unshared(data, index, counts, has_shares), UserWarning, stacklevel=2)
    if not has_shares:
        train, test = train_test_split(np.arange(n), test_size=test_size, random_state=seed)
        return train, test
    train, test = train_test_split(
        shared, test_size=test_size, random_state=seed, stratify=index[shared]
    )
    return np.concatenate([train, np.flatnonzero(single)]), test


def _unshared(data: Dataset | Data, index: Array, counts: Array, has_shares: bool) -> str:
    """Why not every class is in both parts."""
    if not has_shares:
        return (
            f"{data.name}: {len(index)} rows are too few for a share of each of {len(counts)} "
            "classes in both parts: a class may be missing in one of them."
        )
    first = data.y[np.flatnonzero(counts[index] == 1)[0]]
    n_single = int(np.sum(counts == 1))
    return (
        f"{data.name}: {n_single} of {len(counts)} classes have one row only, such as {first!s}: "
        "it is trained on, and no test row is of that class."
    )
