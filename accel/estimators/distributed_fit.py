"""The fit of a linear model whose rows lie on the workers of a dask cluster."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.backends import backend_for, get_backend, last_resort
from accel.backends.base import first_line
from accel.backends.interchange import bytes_of
from accel.cluster import Distributed, Spread, is_dask
from accel.cluster.distributed import answers, client_here, let_go, task
from accel.cluster.partitions import Partitions, Rows, cut, persisted
from accel.estimators.account import Stages
from accel.estimators.checks import (
    Targets,
    check_classes,
    check_total,
    class_weights,
    labels_of,
    weights_of,
)
from accel.estimators.linear import linear_objective
from accel.estimators.linear_fit import Problem, brought
from accel.estimators.options import Options
from accel.estimators.prediction import n_outputs_for
from accel.objective import Objective
from accel.placement import Place, Sizes, places, size
from accel.rows import FEWEST_OF_A_CLASS, sample_runs

Array = Any


@dataclass(frozen=True)
class Recipe:
    """What a worker needs to know beside its rows.

    Parameters
    ----------
    classes : ndarray (n_classes,)
        Labels of all parts, sorted.
    of_class : ndarray (n_classes,)
        Weight of each class, float64.
    totals : ndarray (n_classes,)
        Sum of the weights of the rows of each class.
    fit_intercept : bool
        Whether the model has b.
    backend, placement : str
        As the estimator takes them: each worker decides for itself.
    share : int
        Parts that share the memory of a machine.
    """

    classes: Array
    of_class: Array
    totals: Array
    fit_intercept: bool
    backend: str
    placement: str
    share: int

    @property
    def total(self) -> float:
        """Sum of the weights of all rows."""
        return float(np.sum(self.totals))

    def targets(self, rows: Rows) -> Targets:
        """Places of the labels of rows among the classes, and their weights."""
        present, index = labels_of(rows.y)
        index = np.asarray(np.searchsorted(self.classes, present))[index]
        weight = _weights(rows) * self.of_class[index]
        return Targets(self.classes, index, weight, self.total)


@dataclass(frozen=True)
class DistributedProblem(Problem):
    """A problem whose X is `Distributed`.

    Parameters
    ----------
    sample : tuple of ndarray and Targets
        Some rows, with their labels and weights, on the client.
    """

    sample: tuple[Array, Targets] = field(kw_only=True)

    def at(self, place: Place) -> Objective:
        """The objective on the client, which asks the workers for its sums."""
        build, (X, targets) = self.build(place.backend), self.sample
        return build(self.X, self.targets, sample=build(place.backend.asarray(X), targets))


def is_on_cluster(X: Any) -> bool:
    """Whether a fit on X is one for the workers of a cluster."""
    return is_dask(X) or isinstance(X, Spread)


@contextmanager
def distributed_problem(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    options: Options,
    stages: Stages,
    solver: Callable[..., str],
    start: Callable[[Any, Targets], NDArray[Any]],
) -> Iterator[tuple[Problem, list[Place], Callable[[], Any]]]:
    """The problem on the workers and the place of its fit; they forget it at the end.

    Parameters
    ----------
    estimator : LogisticRegression
        Learns its names of columns; its `backend` is what each worker opens.
    X : dask collection or Spread (n_samples, n_features)
        Rows.
    y, sample_weight : dask collection or array-like (n_samples,)
        Labels and weights; None as in `fit`.
    options : Options
        Arguments of the estimator.
    stages : Stages
        Takes the seconds.
    solver : callable
        (n_classes=) -> name of the solver.
    start : callable
        (X, targets) -> first parameters.

    Yields
    ------
    problem : Problem
        What is to be fitted.
    places : list of Place
        The client, where the solver runs.
    where : callable
        () -> the workers, for people.

    Raises
    ------
    ValueError
        If there is no client, or as for data in memory.
    """
    with stages("check"):
        client = client_here()
        cuts = cut(client, X, y, sample_weight)
    held = list(cuts.rows)
    try:
        with stages("check"):
            recipe = _recipe(client, cuts, estimator, options)
            n_classes = len(recipe.classes)
            targets = Targets(recipe.classes, None, None, recipe.total)
        with stages("distribute"):
            parts = persisted(client, [task(_part)(rows, recipe) for rows in cuts.rows])
            held += parts
            shape = (cuts.edges[-1], cuts.n_features)
            rows = Distributed(client, parts, shape, cuts.dtype, cuts.identity)
            _set_names(estimator, cuts)
            first, backend = start(rows, targets), get_backend("numpy")
            sizes = Sizes(shape, rows.nbytes, first.itemsize, n_outputs_for(n_classes))
            sample = _sample(client, cuts, recipe, sizes.sample_rows(backend.free_bytes()))
            names = sorted(set(answers(client, [task(_where)(part) for part in parts])))
            let_go(cuts.rows)
        where = f"{len(client.nthreads())} workers ({', '.join(names)})"
        n_sampled = sample[0].shape[0]
        reason = (
            f"Placement: {len(parts)} partitions on {where}, {size(rows.nbytes)} in all; "
            f"{n_sampled} sampled rows on the client."
        )
        name = solver(n_classes=n_classes)
        problem = DistributedProblem(rows, targets, options, name, first, sample=sample)
        yield problem, [Place(backend, 0, False, n_sampled, reason)], lambda: where
    finally:
        let_go(held)


def _parts_on_a_machine(client: Any, n_parts: int) -> int:
    """Parts that one machine will hold, if every worker holds as many."""
    hosts = Counter(address.rsplit(":", 1)[0] for address in client.nthreads())
    workers = sum(hosts.values())
    return -(-n_parts * max(hosts.values(), default=1) // max(workers, 1))


def _recipe(client: Any, cuts: Partitions, estimator: Any, options: Options) -> Recipe:
    """Classes and weights of all rows, from a few numbers of each part."""
    summaries = answers(client, [task(_summary)(rows) for rows in cuts.rows])
    classes = np.unique(np.concatenate([present for present, _ in summaries]))
    check_classes(classes)
    totals = np.zeros(len(classes))
    of_class = np.ones(len(classes))
    with np.errstate(over="ignore"):
        for present, weight in summaries:
            totals[np.searchsorted(classes, present)] += weight
        if estimator.class_weight is not None:
            of_class = class_weights(estimator.class_weight, classes, totals)
        totals *= of_class
        check_total(float(np.sum(totals)))
    return Recipe(
        classes,
        of_class,
        totals,
        options.fit_intercept,
        estimator.backend,
        options.placement,
        _parts_on_a_machine(client, len(cuts.rows)),
    )


def _summary(rows: Rows) -> tuple[Array, Array]:
    """On a worker: the labels that occur in a part, and the weight of each."""
    present, index = labels_of(rows.y)
    return present, np.bincount(index, weights=_weights(rows))


def _weights(rows: Rows) -> Array:
    """On a worker: weights of a part, all of which may be zero; those of all parts may not."""
    weight = rows.weight
    if weight is not None and len(weight) and not np.any(weight):
        return np.zeros(len(weight))
    return weights_of(weight, rows.y)


def _part(rows: Rows, recipe: Recipe) -> Objective:
    """On a worker: the mean loss over its rows, without penalty."""
    X, targets = rows.X, recipe.targets(rows)
    backend = backend_for(recipe.backend, X)
    real_bytes = 8 if str(X.dtype).endswith("float64") else 4
    sizes = Sizes(X.shape, bytes_of(X), real_bytes, n_outputs_for(len(recipe.classes)))
    resort = last_resort(recipe.backend, backend)
    why = "no place has room for it"
    for place in places(X, sizes, backend, resort, recipe.placement, recipe.share):
        try:
            with place.backend.context():
                return linear_objective(
                    brought(X, place),
                    targets,
                    place.backend,
                    fit_intercept=recipe.fit_intercept,
                    input_scale=1.0,  # the client's parameters have it in them
                )
        except Exception as error:
            if not place.backend.is_out_of_memory(error):
                raise
            why = first_line(error)
        gc.collect()
        place.backend.release()
    held = size(sizes.stored_bytes + sizes.vector_bytes)
    raise MemoryError(f"A worker has no room for a partition of {held} ({why})")


def _where(part: Objective) -> str:
    """On a worker: the backend of a part, and that it could be built."""
    return part.backend.name


def _sample(client: Any, cuts: Partitions, recipe: Recipe, n_rows: int) -> tuple[Array, Targets]:
    """Sampled rows, on the client, and more of the rows of classes that have few among them."""
    runs = sample_runs(cuts.edges[-1], cuts.n_features, cuts.dtype.itemsize, n_rows)
    taken = answers(client, [task(Rows.take)(rows, inside) for rows, inside in cuts.runs_of(runs)])
    sample = _joined(taken)
    targets = recipe.targets(sample)
    have = np.bincount(targets.index[targets.weight > 0], minlength=len(recipe.classes))
    wanted = min(FEWEST_OF_A_CLASS, max(1, len(targets.index) // len(have)))
    rare = recipe.classes[have < wanted]
    if len(rare):
        each = -(-wanted // len(cuts.rows))
        more = answers(client, [task(Rows.of_labels)(rows, rare, each) for rows in cuts.rows])
        sample = _joined([*taken, *(rows for rows in more if rows is not None)])
    return sample.X, recipe.targets(sample).weighing(recipe.totals)


def _joined(parts: list[Rows]) -> Rows:
    """Rows of several parts, on the host."""
    weights = [rows.weight for rows in parts]
    return Rows(
        np.concatenate([rows.X for rows in parts]),
        np.concatenate([rows.y for rows in parts]),
        None if weights[0] is None else np.concatenate(weights),
    )


def _set_names(estimator: Any, cuts: Partitions) -> None:
    """Names and number of the columns, as any fit learns them."""
    vars(estimator).pop("feature_names_in_", None)
    estimator.n_features_in_ = cuts.n_features
    names = cuts.feature_names
    if names is not None and all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.array(names, dtype=object)
