"""Rows to learn from and rows held out: in memory, on disk, or read by the workers of a cluster."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any, Protocol

import numpy as np

from accel.backends import get_backend
from accel.backends.base import first_line
from accel.cluster import frame, spread
from accel.datasets import DataError, Dataset
from accel.estimators.account import Stages
from accel.sources import Data

Array = Any


class Parts(Protocol):
    """Two parts of the rows, for one fit."""

    def check(self, backend: str, stages: Stages) -> None:
        """Prove that the fit can have its backend, before it is begun."""

    def fit(self, model: Any) -> None:
        """Learn from the first part."""

    def predictions(self, model: Any) -> tuple[Array, Array]:
        """Labels of both parts, on the host."""


def held_out(data: Dataset | Data, train: Array, test: Array, scheduler: str | None) -> Parts:
    """The parts of some data.

    Parameters
    ----------
    data : Dataset or Data
        All rows, in memory or on disk.
    train, test : ndarray of int
        Places of those to learn from and of those held out.
    scheduler : str or None
        Address of a dask scheduler, for data on disk.

    Returns
    -------
    Parts
        Nothing is read or moved yet.
    """
    if isinstance(data, Dataset):
        return InMemory(data, train, test)
    if scheduler is None:
        return OnDisk(data, train, test)
    return OnCluster(data, train, test, scheduler)


class InMemory:
    """Rows cut in two; see `held_out`."""

    def __init__(self, data: Dataset, train: Array, test: Array) -> None:
        self._X, self._y = (data.X[train], data.X[test]), data.y[train]
        weight = data.sample_weight
        self._weight = None if weight is None else weight[train]

    def check(self, backend: str, stages: Stages) -> None:
        """The fit brings them, if there is room."""
        with stages("open backend"):
            get_backend(backend)

    def fit(self, model: Any) -> None:
        """Learn from the first part."""
        model.fit(self._X[0], self._y, *([] if self._weight is None else [self._weight]))

    def predictions(self, model: Any) -> tuple[Array, Array]:
        """Labels of both parts."""
        return model.predict(self._X[0]), model.predict(self._X[1])


class OnDisk:
    """All rows are read in every pass, and those held out weigh nothing; see `held_out`."""

    def __init__(self, data: Data, train: Array, test: Array) -> None:
        self._data, self._train, self._test = data, train, test
        given = data.sample_weight
        self._weight = np.ones(len(data.y)) if given is None else given.copy()
        self._weight[test] = 0
        known = np.unique(data.y[train])  # a label that is held out only is none to learn
        self._labels = np.where(np.isin(data.y, known), data.y, known[0])

    def check(self, backend: str, stages: Stages) -> None:
        """The fit brings them, block by block."""
        with stages("open backend"):
            get_backend(backend)

    def fit(self, model: Any) -> None:
        """Learn from the rows that weigh something."""
        model.fit(self._data.X, self._labels, self._weight)

    def predictions(self, model: Any) -> tuple[Array, Array]:
        """Labels of both parts, by one pass."""
        labels = model.predict(self._data.X)
        return labels[self._train], labels[self._test]


class OnCluster(OnDisk):
    """The same, each worker reading its own rows; predictions are made here."""

    def __init__(self, data: Data, train: Array, test: Array, scheduler: str) -> None:
        super().__init__(data, train, test)
        self._scheduler = scheduler

    def check(self, backend: str, stages: Stages) -> None:
        """Each worker opens its own backend."""

    def fit(self, model: Any) -> None:
        """Learn from the rows that weigh something, on the workers."""
        X, y, weight = self._data.X, self._labels, self._weight
        with _client(self._scheduler):
            try:
                if X.is_random:
                    model.fit(spread(X, y, weight), None)
                else:
                    model.fit(frame(X), y, weight)
            except CancelledError as error:
                raise DataError(
                    f"scheduler={self._scheduler!r} was lost ({first_line(error)}): start it again."
                ) from error


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise DataError('scheduler needs dask: pip install "accel[dask]".') from None
    try:
        return Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise DataError(
            f"scheduler={address!r} does not answer: start one with 'dask scheduler', give its "
            "address as tcp://HOST:8786."
        ) from error
