"""What both networks do: train by batches or on all rows at once, and predict where X lies."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from accel.backends import backend_for
from accel.backends.interchange import device_of, is_sparse, to_host
from accel.checkpoint import Checkpoint, digest, pack, unpack
from accel.estimators.account import Account, Explained, Stages
from accel.estimators.checks import check_X, old_model_kept
from accel.estimators.dispatch import move_attributes
from accel.estimators.network_options import FULL_BATCH, RULES, NetworkOptions, network_options
from accel.estimators.network_targets import NetworkTargets
from accel.estimators.network_training import (
    Problem,
    first_state,
    move,
    problem_of,
    split_rows,
    stochastic_solver,
    with_curves,
    with_memory,
)
from accel.estimators.prediction import ArrayEstimator, placed, raw_prediction
from accel.network import Network
from accel.objective import Objective
from accel.solvers import Solution, Status, minimize
from accel.solvers.epochs import EpochProgress, Limits, StochasticSolver, Training
from accel.solvers.status import UNFINISHED

Array = Any
PRINT_EVERY = 10
# What may differ between a run and the one that goes on from its checkpoint.
NOT_OF_THE_RUN = ("checkpoint", "checkpoint_every", "max_iter", "warm_start")


class NetworkEstimator(Explained, ArrayEstimator):
    """A network with a scikit-learn surface; a subclass says what its targets are."""

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there are coefficients."""
        return "coefs_" in vars(self)

    def _can_train_by_batches(self) -> bool:
        """Whether there is a partial_fit."""
        if self.solver not in RULES:
            raise AttributeError(
                f"partial_fit trains by batches, solver={self.solver!r} does not: use "
                f"{', '.join(RULES)}."
            )
        return True

    def _fit(
        self, X: Any, targets_of: Callable[..., NetworkTargets], *, incremental: bool = False
    ) -> None:
        """Train; targets_of(n_rows, first=) says what is to be predicted."""
        with old_model_kept(self, "coefs_"):
            self._fit_checked(X, targets_of, incremental=incremental)

    def _fit_checked(
        self, X: Any, targets_of: Callable[..., NetworkTargets], *, incremental: bool
    ) -> None:
        stages, given = Stages(), X
        with stages("check"):
            options = network_options(self)
            if incremental:
                _check_incremental(options)
            first = "coefs_" not in vars(self) or not (options.warm_start or incremental)
            with device_of(X):
                X = check_X(self, X, fitting=first)
            targets = targets_of(X.shape[0], first=first)
            widths = options.hidden_layer_sizes
            network = Network(X.shape[1], targets.n_outputs, widths, options.activation)
            if not first:
                self._check_same_shape(network)
        with stages("open backend"):
            backend = backend_for(self.backend, X)
            report = backend.report()
        if self.verbose:
            print(f"Training on {report}")
        with backend.context():
            with stages("transfer"):
                problem = problem_of(X, targets, options, network, backend)
            with stages("train"):
                if options.solver in FULL_BATCH:
                    ending = self._minimize(problem, first=first)
                else:
                    ending = self._train(problem, first=first, incremental=incremental)
        self.backend_ = report
        self.account_ = Account(
            what=_what(self, X, network),
            backend=report,
            reasons=tuple(_reasons(problem, ending.batch_size)),
            passes={ending.pass_name: ending.n_passes},
            small_passes={},
            seconds=stages.seconds,
            ending=ending.sentence,
        )
        move_attributes(self, given)
        self._judge(ending)

    def _train(self, problem: Problem, *, first: bool, incremental: bool) -> _Ending:
        """By batches."""
        options, backend = problem.options, problem.backend
        store = self._checkpoint(problem)  # first: the draws move random_state on
        random_state = check_random_state(self.random_state)
        start = self._start(problem, random_state, first=first)
        rows, held_out = split_rows(problem, random_state)
        n_rows = len(problem.targets.Y) if rows is None else len(rows)
        training = first_state(problem, start, n_rows, random_state)
        if not first and "_kept" in vars(self):
            last = unpack(*self._kept, backend)
            training = with_curves(training, last)
            if incremental:
                training = with_memory(training, last, xp=backend.xp)
        if store is not None:
            training = store.load(backend) or training
        resumed = training.epoch
        solver = stochastic_solver(problem, training, rows, held_out)
        if not first and not resumed:
            move(training, solver, problem)
        limits = Limits(options.max_iter, options.tol, options.n_iter_no_change)

        unsaved: list[OSError] = []

        def after_epoch(training: Training, progress: EpochProgress) -> Any:
            if self.verbose:
                _say(progress)
            is_last = training.ended is not None or training.epoch == options.max_iter
            try:
                if store is not None:
                    store.save(training, backend, is_last=is_last, expand=solver.expand)
            except OSError as error:  # said once what was learned is kept
                unsaved.append(error)
                return True
            stop = self.callback(progress) if self.callback is not None else None
            return stop or incremental

        status = solver.train(training, limits, after_epoch=after_epoch)
        if status is Status.STOPPED and (incremental or unsaved):
            status = Status.UNSAVED if unsaved else Status.ONE_EPOCH
        self._keep_training(problem, training, solver)
        ending = _epochs_ending(status, training, resumed, solver.batches.size)
        return replace(ending, error=unsaved[0] if unsaved else None)

    def _minimize(self, problem: Problem, *, first: bool) -> _Ending:
        """On all rows at once, by the solvers of the linear models."""
        options, backend, targets = problem.options, problem.backend, problem.targets
        store = self._checkpoint(problem)
        weight = np.ones(len(targets.Y)) if targets.weight is None else targets.weight
        objective = Objective(
            backend.asarray(problem.X),
            backend.asarray(targets.Y),
            backend.asarray(weight / weight.sum(), dtype=problem.dtype),
            loss=targets.loss,
            network=problem.network,
            alpha=float(options.alpha / weight.sum()),
            backend=backend,
            input_scale=options.input_scale,
        )
        start = self._start(problem, check_random_state(self.random_state), first=first)
        resume, keep = None, None
        if store is not None:
            resume, _ = store.load_snapshot(backend)  # there is but one plan
            keep = partial(store.save_snapshot, backend=backend, expand=objective.expand)
        solution = minimize(
            objective,
            backend.asarray(start),
            FULL_BATCH[options.solver](options),
            tol=options.tol,
            max_iter=options.max_iter,
            callback=self._on_progress,
            resume=resume,
            keep=keep,
        )
        self._keep_solution(problem, solution)
        name = "value and gradient"
        return _Ending(
            solution.status,
            solution.sentence(options.tol),
            name,
            objective.passes[name],
            error=solution.unsaved,
        )

    def _on_progress(self, progress: Any) -> Any:
        if self.verbose and progress.n_iter % PRINT_EVERY == 0:
            print(f"Loss after iteration {progress.n_iter}: {progress.value:f}")
        return self.callback(progress) if self.callback is not None else None

    def _start(
        self, problem: Problem, random_state: np.random.RandomState, *, first: bool
    ) -> NDArray[Any]:
        """First parameters on the host: drawn, or those of the last fit."""
        is_double = problem.dtype == problem.backend.xp.float64
        dtype = np.dtype(np.float64 if is_double else np.float32)
        if first:
            return problem.network.initial(problem.options.initialization, random_state, dtype)
        return self._params().astype(dtype)

    def _checkpoint(self, problem: Problem) -> Checkpoint | None:
        """Where states are kept, and what the run is."""
        options, targets = problem.options, problem.targets
        if options.checkpoint is None:
            return None
        run = {
            field.name: repr(getattr(options, field.name))
            for field in fields(options)
            if field.name not in NOT_OF_THE_RUN
        }
        if options.learning_rate == "cosine":
            run["max_iter"] = repr(options.max_iter)
        state = check_random_state(self.random_state).get_state()
        run["random_state"] = (
            "None" if self.random_state is None else digest(state[1], np.array(state[2:]))
        )
        run["loss"] = targets.loss.name
        run["data"] = digest(problem.given, targets.Y, targets.weight)
        store = Checkpoint(options.checkpoint, options.checkpoint_every, run)
        store.prepare()
        return store

    def _keep_solution(self, problem: Problem, solution: Solution) -> None:
        """Fitted attributes of a training on all rows at once."""
        self.__dict__.pop("_kept", None)
        self._keep_params(problem, problem.backend.to_numpy(solution.params))
        self.loss_ = self.objective_ = solution.value
        self.best_loss_: float | None = solution.value
        self.gradient_norm_ = solution.error
        self.loss_curve_ = list(solution.history)
        self.validation_scores_: list[float] | None = None
        self.best_validation_score_: float | None = None
        self.n_iter_, self.t_ = solution.n_iter, solution.n_iter * len(problem.targets.Y)
        self.status_ = solution.status

    def _keep_training(
        self, problem: Problem, training: Training, solver: StochasticSolver
    ) -> None:
        """Fitted attributes of a training by batches, all at once, on the host."""
        early = problem.options.early_stopping
        params = solver.expand(training.best_params if early else training.params)
        none = training.params[:0]
        rest = replace(training, params=none, best_params=none, places=training.places[:0])
        self._kept = pack(rest, problem.backend)  # what a warm start and partial_fit go on from
        self._keep_params(problem, problem.backend.to_numpy(params))
        self.loss_curve_ = training.loss_curve
        self.loss_ = training.loss_curve[-1] if training.loss_curve else float("nan")
        self.best_loss_ = None if early else training.best_loss
        self.validation_scores_ = training.validation_scores if early else None
        self.best_validation_score_ = training.best_score if early else None
        self.n_iter_, self.t_ = training.epoch, training.t
        for name in ("objective_", "gradient_norm_"):  # of a fit by "lbfgs" or "gd"
            self.__dict__.pop(name, None)

    def _keep_params(self, problem: Problem, params: NDArray[Any]) -> None:
        layers = list(problem.network.layers(params, xp=np))
        self.coefs_ = [W.copy() for W, _ in layers]
        self.intercepts_ = [np.array(b) for _, b in layers]
        self.n_layers_, self.n_outputs_ = len(layers) + 1, problem.network.n_out
        self.input_scale_ = problem.options.input_scale
        self.out_activation_ = problem.targets.output
        if problem.targets.classes is not None:
            self.classes_ = problem.targets.classes

    def _params(self) -> NDArray[Any]:
        parts = zip(self.coefs_, self.intercepts_, strict=True)
        return np.concatenate([to_host(part).reshape(-1) for pair in parts for part in pair])

    def _check_same_shape(self, network: Network) -> None:
        shapes = [tuple(W.shape) for W in self.coefs_]
        if shapes != network.shapes:
            raise ValueError(
                f"hidden_layer_sizes and X ask for layers {network.shapes}, but the fitted ones "
                f"are {shapes}: set warm_start=False to start again."
            )

    @property
    def first_weights(self) -> Array:
        """Fitted weights of the first layer, where they live."""
        return self.coefs_[0]

    def _raw_of(self, X: Array) -> Array:
        """(n_samples, n_outputs), in the namespace and on the device of X, block by block."""
        widths = tuple(W.shape[1] for W in self.coefs_)
        network = Network(self.n_features_in_, widths[-1], widths[:-1], self.activation)
        scaled = self._params() * network.input_scale(self.input_scale_)
        params, xp = placed(scaled, X)
        return raw_prediction(network, params, X, xp=xp)

    def _judge(self, ending: _Ending) -> None:
        """Say how it ended: aloud where it was not by itself."""
        self.status_ = ending.status
        if self.verbose:
            print(ending.sentence)
        if ending.error is not None:
            raise ending.error
        if ending.status is Status.INTERRUPTED:
            raise KeyboardInterrupt(ending.sentence)
        if ending.status in UNFINISHED:
            warnings.warn(ending.sentence, ConvergenceWarning, stacklevel=5)


@dataclass(frozen=True)
class _Ending:
    """How a training ended, in words."""

    status: Status
    sentence: str
    pass_name: str
    n_passes: int
    batch_size: int = 0
    error: OSError | None = None


def _epochs_ending(status: Status, training: Training, resumed: int, size: int) -> _Ending:
    loss = f", loss {training.loss_curve[-1]:.6g}" if training.loss_curve else ""
    scores = training.validation_scores
    score = f", best validation score {training.best_score:.4f}" if scores else ""
    again = f" (from epoch {resumed} of the checkpoint on)" if resumed else ""
    sentence = f"{status.name} after {training.epoch} epochs{again}{loss}{score}: {status.value}"
    return _Ending(status, sentence, "epoch", training.epoch - resumed, size)


def _check_incremental(options: NetworkOptions) -> None:
    if options.early_stopping:
        raise ValueError("partial_fit does not support early_stopping=True")
    if options.center:
        raise ValueError("center=True needs the mean of all rows: use fit.")
    if options.learning_rate == "cosine":
        raise ValueError("learning_rate='cosine' needs the number of epochs: use fit.")
    if options.checkpoint is not None:
        raise ValueError("checkpoint is for fit: between calls of partial_fit, pickle the model.")


def _say(progress: EpochProgress) -> None:
    score = progress.validation_score
    more = "" if score is None else f", validation score {score:f}"
    print(f"Epoch {progress.n_iter}, loss {progress.value:.8f}{more}")


def _what(estimator: Any, X: Array, network: Network) -> str:
    """The first line of the account."""
    n, d = X.shape
    dtype = str(X.dtype).rpartition(".")[2]
    layers = "-".join(str(width) for width in (d, *network.hidden, network.n_out))
    kind = "sparse " if is_sparse(X) else ""
    name = type(estimator).__name__
    return f"{name}, {n} x {d} {kind}{dtype}, layers {layers} ({network.activation})."


def _reasons(problem: Problem, batch_size: int) -> list[str]:
    """One sentence for each choice, and for what was asked and has no effect."""
    options = problem.options
    if options.solver in FULL_BATCH:
        reasons = [f"Solver {options.solver}: all rows at once."]
        if options.early_stopping:
            reasons.append("early_stopping has no effect: it is for training by batches.")
        return reasons
    reasons = [f"Solver {options.solver}: batches of {batch_size} rows."]
    if options.center:
        reasons.append("Centred columns: the first b takes up their means.")
    if options.dropout:
        reasons.append(f"Dropout: {options.dropout:g} of the hidden outputs in each step.")
    if options.early_stopping:
        reasons.append(f"Early stopping: {options.validation_fraction:g} of the rows are held out.")
    if options.solver != "sgd" and options.learning_rate in ("invscaling", "adaptive"):
        reasons.append(
            f"learning_rate={options.learning_rate!r} has no effect: it is for solver='sgd'."
        )
    if not problem.is_resident:
        reasons.append("X stays in host memory, the device has no room: batches are copied ahead.")
    if options.precision != "float32":
        emulated = problem.backend.emulates(options.precision)
        where = "emulated, no faster" if emulated else "on tensor cores"
        reasons.append(f"Products with {options.precision} factors: {where}.")
    return reasons
