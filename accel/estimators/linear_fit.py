"""The fit of a linear model: placed, planned and minimised, and again where memory runs out."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.backends import Backend, backend_for, last_resort
from accel.backends.base import first_line
from accel.backends.interchange import bytes_of, device_of, is_sparse
from accel.checkpoint import Checkpoint
from accel.estimators.account import Stages
from accel.estimators.checks import Targets, check_rows, check_targets
from accel.estimators.fit_store import Store, store_at
from accel.estimators.linear import linear_objective
from accel.estimators.options import Options
from accel.estimators.prediction import n_outputs_for
from accel.objective import Objective
from accel.penalties import alpha_of
from accel.placement import Place, Sizes, places
from accel.rows import Streamed, load, rows_in, runs_of, sample_runs, with_rare
from accel.solvers import Plan, Progress, Solution, minimize, plan
from accel.solvers.exactly import ended_in_float64, held
from accel.sources import ArraySource, gather, is_source

Array = Any


@dataclass(frozen=True)
class Problem:
    """What is to be fitted, wherever.

    Parameters
    ----------
    X : array, sparse matrix or Source (n_samples, n_features)
        After its checks, where it came from.
    targets : Targets
        On the host.
    options : Options
        Arguments of the estimator.
    solver : str
        "auto" or a key of `accel.solvers.SOLVERS`.
    start : ndarray (n_params,)
        First parameters, in the user's coordinates, on the host.
    """

    X: Any
    targets: Targets
    options: Options
    solver: str
    start: NDArray[Any]

    @property
    def sizes(self) -> Sizes:
        """What its fit holds, in bytes."""
        n_outputs = n_outputs_for(len(self.targets.classes))
        real_bytes = self.start.dtype.itemsize
        return Sizes(tuple(self.X.shape), bytes_of(self.X), real_bytes, n_outputs)

    def words(self, name: str) -> str:
        """What is fitted, in one line: the first of an account."""
        (n, d), options, classes = self.X.shape, self.options, len(self.targets.classes)
        dtype = str(self.X.dtype).rpartition(".")[2]
        kind = "sparse " if is_sparse(self.X) else ""
        penalty = f"C={options.C:g}"
        if options.l1_ratio:
            penalty += f", l1_ratio={options.l1_ratio:g}"
        return f"{name}, {n} x {d} {kind}{dtype}, {classes} classes, {penalty}."

    def build(self, backend: Backend) -> Callable[..., Objective]:
        """(X, targets, sample=) -> an objective: scikit-learn's C becomes alpha and l1 here."""
        options = self.options
        ratio, strength = options.l1_ratio, float(alpha_of(options.C, self.targets.total))
        return partial(
            linear_objective,
            backend=backend,
            fit_intercept=options.fit_intercept,
            input_scale=options.input_scale,
            alpha=(1 - ratio) * strength,
            l1=ratio * strength,
        )

    def at(self, place: Place) -> Objective:
        """The objective there: X is loaded whole, or streamed with a sample at hand."""
        build, rows = self.build(place.backend), brought(self.X, place)
        if not place.is_streamed:
            return build(rows, self.targets)
        source = rows.source
        (n, d), targets = source.shape, self.targets
        sampled = rows_in(sample_runs(n, d, source.dtype.itemsize, place.sample_rows))
        sampled = with_rare(sampled, targets.index, targets.weight)
        X = place.backend.asarray(gather(source, runs_of(sampled)))
        known = build(X, targets.at(sampled))
        return build(rows, self.targets, sample=known)


def brought(X: Any, place: Place) -> Any:
    """X as an objective there takes it: whole on the device, or to be streamed to it."""
    if place.is_streamed:
        source = ArraySource(X) if isinstance(X, np.ndarray) else X
        return Streamed(source, place.block_rows, place.backend)
    if is_source(X):
        return load(X, place.block_rows, place.backend)
    return place.backend.asarray(X)


@contextmanager
def local_problem(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    options: Options,
    stages: Stages,
    solver: Callable[..., str],
    start: Callable[[Any, Targets], NDArray[Any]],
) -> Iterator[tuple[Problem, Iterable[Place], Callable[[], Any]]]:
    """What a LogisticRegression is to fit, after its checks, and where: in this process.

    Parameters
    ----------
    estimator : LogisticRegression
        Learns its number and names of columns.
    X, y, sample_weight : array-like
        As `fit` takes them.
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
        What.
    places : iterable of Place
        Where.
    where : callable
        () -> the same for people.
    """
    with stages("check"):
        with device_of(X):
            X = check_rows(estimator, X, fitting=True)
        targets = check_targets(y, X.shape[0], sample_weight, estimator.class_weight)
        name = solver(n_classes=len(targets.classes))
        problem = Problem(X, targets, options, name, start(X, targets))
    with stages("open backend"):
        backend = backend_for(estimator.backend, X)
        resort = last_resort(estimator.backend, backend)
        ladder = places(X, problem.sizes, backend, resort, options.placement)
    yield problem, ladder, backend.report


@dataclass(frozen=True)
class Fit:
    """What came of a fit.

    Parameters
    ----------
    objective : Objective
        What was minimised, at the last place.
    way : Plan
        How.
    solution : Solution
        To what end.
    params : ndarray (n_params,)
        In the user's coordinates, on the host.
    backend : Backend
        Where it ended.
    reasons : tuple of str
        One sentence for each decision.
    """

    objective: Objective
    way: Plan
    solution: Solution
    params: NDArray[Any]
    backend: Backend
    reasons: tuple[str, ...]


class _NoRoomError(Exception):
    """Memory ran out: the sentence, and the last parameters, on the host, or None."""

    def __init__(self, sentence: str, params: NDArray[Any] | None) -> None:
        super().__init__(sentence)
        self.params = params


def fit_linear(
    problem: Problem,
    ladder: Iterable[Place],
    stages: Stages,
    *,
    callback: Callable[[Objective, Progress], Any],
    checkpoint: Checkpoint | None,
) -> Fit:
    """Fit at the first place; where memory runs out, at the next, from where it got to.

    Parameters
    ----------
    problem : Problem
        What.
    ladder : iterable of Place
        Where, see `accel.placement.places`.
    stages : Stages
        Takes the seconds of transfer, plan and solve.
    callback : callable
        (objective, progress), called before each update; a true result ends the fit.
    checkpoint : Checkpoint or None
        Keeps the state.

    Returns
    -------
    Fit
        The optimum is the same wherever it was found; how it came there is in the reasons.

    Raises
    ------
    MemoryError
        If no place has room.

    Warns
    -----
    RuntimeWarning
        Once for each time that memory ran out.
    """
    said: list[str] = []
    refusal, rescued = "", False
    for place in ladder:
        said += filter(None, [place.reason])
        if refusal:
            warnings.warn(f"{refusal} {place.reason}", RuntimeWarning, stacklevel=5)
            place = replace(place, backend=place.backend.with_fallback(refusal))
        try:
            with place.backend.context():
                store = None if checkpoint is None else store_at(checkpoint, place, rescued)
                fit = _fit_at(place, problem, stages, callback, store)
            return replace(fit, reasons=(*said, *fit.reasons))
        except _NoRoomError as error:
            refusal = str(error)
            if error.params is not None:
                problem, rescued = replace(problem, start=error.params), True
        # only here the arrays that the error's frames held can go; an objective and its pass refer
        # to each other, so they go when they are looked for
        said.append(refusal)
        gc.collect()
        place.backend.release()
    raise MemoryError(f"{refusal} Free memory, or store X as float32, float16 or uint8.")


def _fit_at(
    place: Place,
    problem: Problem,
    stages: Stages,
    callback: Callable[[Objective, Progress], Any],
    store: Store | None,
) -> Fit:
    """One try; `_NoRoomError` where memory runs out."""
    backend, options = place.backend, problem.options
    latest: list[Progress] = []

    def note(progress: Progress) -> Any:
        latest[:] = [progress]
        return callback(whole, progress)

    def planned(start: Any, objective: Objective | None = None) -> Plan:
        rate, most = options.learning_rate, options.max_iter
        objective = objective or whole
        return plan(objective, start, problem.solver, learning_rate=rate, max_iter=most)

    try:
        with stages("transfer"):
            whole = problem.at(place)
        with stages("plan"):
            resume = keep = None
            if store is None:
                way = planned(backend.asarray(problem.start))
            else:
                way, resume, kept = store.resumed(backend, problem.start, planned)
                keep = partial(kept.save_snapshot, backend=backend, expand=way.problem.expand)
        with stages("solve"):
            solution = minimize(
                way.problem,
                way.start,
                way.solver,
                tol=options.tol,
                max_iter=options.max_iter,
                callback=note,
                resume=resume,
                keep=keep,
            )
            way, solution, more = ended_in_float64(
                whole,
                way,
                solution,
                lambda one, start: planned(start, one),
                tol=options.tol,
                max_iter=options.max_iter,
                callback=note,
            )
            params, solution, kept_in = held(way, solution, problem.start.dtype, options.tol)
        return Fit(whole, way, solution, params, backend, (*way.reasons, *more, *kept_in))
    except Exception as error:
        if not backend.is_out_of_memory(error):
            raise
        why = first_line(error)
    # the error and its frames, which hold arrays, are gone: what is left may be brought home
    raise _no_room(backend, why, latest)


def _no_room(backend: Backend, why: str, latest: list[Progress]) -> _NoRoomError:
    updates = f" after {latest[0].n_iter} updates" if latest else ""
    sentence = f"Memory ran out on {backend.name}{updates} ({why})."
    try:
        return _NoRoomError(sentence, backend.to_numpy(latest[0].params()) if latest else None)
    except Exception as error:
        if not backend.is_out_of_memory(error):
            raise
    return _NoRoomError(sentence, None)
