"""The parts of a network's fit: the data on its device, the rows, the solver, the first state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.backends import Backend
from accel.backends.base import first_line
from accel.backends.interchange import is_device_array, is_sparse, rows_at
from accel.estimators.network_options import RULES, NetworkOptions
from accel.estimators.network_targets import NetworkTargets
from accel.estimators.prediction import raw_prediction
from accel.minibatch import Batches, BatchObjective
from accel.network import Network
from accel.penalties import LARGEST_ALPHA
from accel.solvers.epochs import StochasticSolver, Training

Array = Any


@dataclass(frozen=True)
class Problem:
    """A fit on its device.

    Parameters
    ----------
    given : array or sparse matrix (n_samples, n_features)
        X after its checks, where it came from.
    X : the same
        Where it is trained from: on the device, or in host memory if that has no room.
    targets : NetworkTargets
        On the host.
    options : NetworkOptions
        Arguments of the estimator.
    network : Network
        Layers.
    backend : Backend
        Computes.
    dtype : dtype
        Of the arithmetic.
    is_resident : bool
        Whether X is on the device.
    """

    given: Array
    X: Array
    targets: NetworkTargets
    options: NetworkOptions
    network: Network
    backend: Backend
    dtype: Any
    is_resident: bool


def problem_of(
    X: Array,
    targets: NetworkTargets,
    options: NetworkOptions,
    network: Network,
    backend: Backend,
) -> Problem:
    """The data on the device, or X in host memory where the device has no room for it."""
    if options.center and is_sparse(X):
        raise ValueError("center=True would make a sparse X dense: leave it False, or densify X.")
    is_double = str(X.dtype).endswith("float64")
    if options.precision != "float32" and (is_double or is_sparse(X)):
        kind = "sparse" if is_sparse(X) else "float64"
        raise ValueError(
            f"precision={options.precision!r} is for dense float32 X, not {kind}: convert X first."
        )
    dtype = backend.xp.float64 if is_double else backend.xp.float32
    by_batches = options.solver in RULES and not is_device_array(X) and not is_sparse(X)
    is_resident = not by_batches or _fits(X, backend)
    there = backend.asarray(X) if is_resident else X
    return Problem(X, there, targets, options, network, backend, dtype, is_resident)


def _fits(X: Array, backend: Backend) -> bool:
    """Whether X has room where it is computed on; what is in host memory is there for a CPU."""
    return backend.is_host or bool(X.nbytes <= backend.free_bytes())


def split_rows(
    problem: Problem, random_state: np.random.RandomState
) -> tuple[NDArray[np.intp] | None, NDArray[np.intp]]:
    """Rows to train on (None for all) and rows held out; rows of weight zero are in neither."""
    targets, options = problem.targets, problem.options
    rows = np.arange(len(targets.Y))
    if targets.weight is not None:
        rows = np.flatnonzero(targets.weight > 0)
    if not options.early_stopping:
        return (None if len(rows) == len(targets.Y) else rows), rows[:0]

    from sklearn.model_selection import train_test_split

    strata = None if targets.strata is None else targets.strata[rows]
    share = options.validation_fraction
    n_held_out = ceil(share * len(rows))
    if not 2 <= n_held_out < len(rows):
        raise ValueError(
            f"The validation set is too small or too large: validation_fraction={share:g} holds "
            f"{n_held_out} of {len(rows)} rows out, at least 2 and fewer than all are needed."
        )
    try:
        train, held_out = train_test_split(
            rows, random_state=random_state, test_size=share, stratify=strata
        )
    except ValueError as error:  # classes too few for the share
        raise ValueError(f"validation_fraction={share:g}: {first_line(error)}.") from None
    return train, held_out


def stochastic_solver(
    problem: Problem,
    training: Training,
    rows: NDArray[np.intp] | None,
    held_out: NDArray[np.intp],
) -> StochasticSolver:
    """The solver by batches with its objective and its feed."""
    options, backend, targets = problem.options, problem.backend, problem.targets
    size = options.rows_in_batch(len(training.places))
    decays = options.solver == "adamw"  # then alpha is not in the loss
    decay = work = None
    if decays:
        decay = backend.asarray(problem.network.penalty(options.alpha), dtype=problem.dtype)
        work = backend.xp.empty_like(decay)
    # of mean one, in float64, so that no unit of weight is beyond float32; alpha with it
    unit = 1.0 if targets.weight is None else float(targets.weight.mean())
    weight = None if targets.weight is None else targets.weight / unit
    alpha = min(options.alpha / unit, LARGEST_ALPHA)
    kernels = backend.step_kernels(training.params, steps=-(-len(training.places) // size))
    number = problem.dtype if targets.Y.dtype.kind == "f" else None  # labels stay integers
    batches = Batches(
        problem.X,
        backend.asarray(targets.Y, dtype=number),
        None if weight is None else backend.asarray(weight, dtype=problem.dtype),
        size=size,
        dtype=problem.dtype,
        backend=backend,
        is_resident=problem.is_resident,
        input_scale=options.input_scale,
    )
    if options.center:
        batches.shift = batches.mean(rows)
    return StochasticSolver(
        objective=BatchObjective(
            loss=targets.loss,
            network=problem.network,
            alpha=0.0 if decays else alpha,
            size=size,
            like=training.params,
            backend=backend,
            precision=options.precision,
            kernels=kernels,
            dropout=options.dropout,
            seed=training.seed,
        ),
        batches=batches,
        rows=rows,
        rule=RULES[options.solver](options, decay, work, kernels.adam),
        schedule=options.schedule,
        initial_rate=options.learning_rate_init,
        shuffle=options.shuffle,
        score=scorer_of(problem, held_out) if len(held_out) else None,
    )


def scorer_of(problem: Problem, rows: NDArray[np.intp]) -> Callable[[Array], float]:
    """The function (params) -> score on some rows, which are gathered once."""
    backend, targets, network = problem.backend, problem.targets, problem.network
    scale = network.input_scale(problem.options.input_scale)
    scale = backend.asarray(scale, dtype=problem.dtype)
    if problem.is_resident:
        X = rows_at(problem.X, backend.asarray(rows), xp=backend.xp)
    else:
        X = backend.asarray(problem.X[rows])
    weight = None if targets.weight is None else targets.weight[rows]

    def score(params: Array) -> float:
        raw = backend.to_numpy(raw_prediction(network, params * scale, X, xp=backend.xp))
        return targets.score(raw, rows, weight)

    return score


def first_state(
    problem: Problem, start: NDArray[Any], n_rows: int, random_state: np.random.RandomState
) -> Training:
    """The state before the first epoch.

    Parameters
    ----------
    problem : Problem
        The fit.
    start : ndarray (n_params,)
        First parameters, on the host.
    n_rows : int
        Rows to train on.
    random_state : numpy.random.RandomState
        Source of the orders.

    Returns
    -------
    Training
        On the device.
    """
    backend, options = problem.backend, problem.options
    n_arrays = RULES[options.solver](options, None, None, None).n_arrays
    return Training(
        params=backend.asarray(start.copy()),
        memory=[backend.asarray(np.zeros_like(start)) for _ in range(n_arrays)],
        best_params=backend.asarray(start.copy()),
        places=np.arange(n_rows),
        random_state=random_state,
        learning_rate=options.learning_rate_init,
        seed=int(random_state.randint(1 << 31)) if options.dropout else 0,
    )


def move(training: Training, solver: StochasticSolver, problem: Problem) -> None:
    """Turn first parameters of X, as a warm start has them, into those of the shifted rows."""
    xp, shift = problem.backend.xp, solver.batches.shift
    if shift is None:
        return
    for params in (training.params, training.best_params):
        xp.copyto(params, problem.network.moved(params, -shift, xp=xp))


def with_curves(training: Training, last: Training) -> Training:
    """A first state with the curves of the last fit: what a warm start keeps."""
    return replace(
        training,
        t=last.t,
        loss_curve=last.loss_curve,
        validation_scores=last.validation_scores,
        best_loss=last.best_loss,
        best_score=last.best_score,
        idle=last.idle,
    )


def with_memory(training: Training, last: Training, *, xp: Any) -> Training:
    """A first state with what the update rule remembers of the last call of partial_fit."""
    if len(last.memory) != len(training.memory):  # another solver since
        return training
    for array, old in zip(training.memory, last.memory, strict=True):
        xp.copyto(array, old)
    return replace(training, step=last.step, learning_rate=last.learning_rate, seed=last.seed)
