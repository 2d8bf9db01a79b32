"""The loop of stochastic training: epochs of batches, and when to end it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.interrupts import Interrupts
from accel.minibatch import Batches, BatchObjective
from accel.solvers.rules import Rule, Schedule
from accel.solvers.status import Status

Array = Any
GREW = 2.0  # times the loss of the first epoch: no noise of batches or dropout


@dataclass
class Training:
    """All that the next epoch depends on, and the curves so far: what a checkpoint holds.

    Parameters
    ----------
    params : array (n_params,)
        Parameters, on the device, for the rows as they come in batches; the steps write into it.
    memory : list of array (n_params,)
        What the update rule remembers, on the device.
    best_params : array (n_params,)
        Parameters after the best epoch, on the device.
    places : ndarray (n_rows,) of int
        The order of the last epoch, on the host.
    random_state : numpy.random.RandomState
        Source of the orders.
    learning_rate : float
        Of the next epoch.
    epoch, step, t : int
        Epochs of this fit; updates that the rule has done; samples seen by this model.
    loss_curve : list of float
        Mean loss of each epoch, while it ran.
    validation_scores : list of float
        Score on the held-out rows after each epoch; empty without early stopping.
    best_loss, best_score : float
        Lowest loss, highest score.
    best_epoch, saved_epoch : int
        The epoch of best_params, and that of the last checkpoint.
    idle : int
        Consecutive epochs that improved the loss, or the score, by less than tol.
    seed : int
        Of the dropout masks.
    ended : Status or None
        Why no epoch follows; None where one may.
    """

    params: Array
    memory: list[Array]
    best_params: Array
    places: NDArray[np.intp]
    random_state: np.random.RandomState
    learning_rate: float
    epoch: int = 0
    step: int = 0
    t: int = 0
    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    best_loss: float = inf
    best_score: float = -inf
    best_epoch: int = 0
    saved_epoch: int = 0
    idle: int = 0
    seed: int = 0
    ended: Status | None = None


@dataclass(frozen=True)
class EpochProgress:
    """What a callback sees after an epoch.

    Parameters
    ----------
    n_iter : int
        Epochs done.
    value : float
        Mean loss of the epoch.
    validation_score : float or None
        On the held-out rows, with early stopping.
    learning_rate : float
        Of the next epoch.
    elapsed_s : float
        Seconds since the start.
    max_iter : int
        Most epochs.
    params : callable
        () -> the parameters at this moment, on the device.
    """

    n_iter: int
    value: float
    validation_score: float | None
    learning_rate: float
    elapsed_s: float
    max_iter: int
    params: Callable[[], Array]


@dataclass(frozen=True)
class Limits:
    """When an epoch is the last.

    Parameters
    ----------
    max_iter : int
        Most epochs.
    tol : float
        Least improvement.
    n_iter_no_change : float
        Epochs without it that are borne; may be infinite.
    """

    max_iter: int
    tol: float
    n_iter_no_change: float


@dataclass(frozen=True)
class StochasticSolver:
    """Trains by an update rule on batches.

    Parameters
    ----------
    objective : BatchObjective
        Value and gradient of a batch.
    batches : Batches
        Where the rows come from.
    rows : ndarray (n_rows,) of int or None
        The rows to train on, on the host; None for all.
    rule : Rule
        Moves the parameters.
    schedule : Schedule
        Of the learning rate.
    initial_rate : float
        Learning rate at the start.
    shuffle : bool
        Whether every epoch has its own order.
    score : callable or None
        (params) -> score on held-out rows: then it decides, and the best parameters are kept.
    """

    objective: BatchObjective
    batches: Batches
    rows: NDArray[np.intp] | None
    rule: Rule
    schedule: Schedule
    initial_rate: float
    shuffle: bool
    score: Callable[[Array], float] | None = None

    def train(
        self,
        training: Training,
        limits: Limits,
        *,
        after_epoch: Callable[[Training, EpochProgress], Any],
    ) -> Status:
        """Train on from a state until a limit is reached.

        Parameters
        ----------
        training : Training
            Start; left at the end.
        limits : Limits
            When to end.
        after_epoch : callable
            Called with the training and an `EpochProgress` after each epoch; true to stop.

        Returns
        -------
        Status
            How it ended.

        Notes
        -----
        The host waits for the device once an epoch, for its loss. Ctrl-C ends the epoch after the
        batch that runs; a second one at once.
        """
        started, xp = time.perf_counter(), self.objective.backend.xp
        moving = [training.params, *training.memory]
        before = [xp.empty_like(array) for array in moving]
        flops = 2.0 * self.batches.size * self.objective.network.largest_W
        quiet = np.errstate(all="ignore")
        with Interrupts() as interrupts, quiet, self.objective.backend.many_steps(flops):
            try:
                while training.ended is None and training.epoch < limits.max_iter:
                    if interrupts.seen:
                        return Status.INTERRUPTED
                    step = training.step
                    for kept, array in zip(before, moving, strict=True):
                        xp.copyto(kept, array)
                    loss = self._epoch(training, interrupts)
                    if loss is None:
                        return Status.INTERRUPTED
                    if not isfinite(loss):
                        for kept, array in zip(before, moving, strict=True):
                            xp.copyto(array, kept)
                        training.step = step
                        return Status.UNSTABLE
                    training.ended = self._judge(training, loss, limits)
                    progress = self._progress(training, limits, time.perf_counter() - started)
                    if after_epoch(training, progress):
                        return Status.STOPPED
            except KeyboardInterrupt:
                return Status.INTERRUPTED
            if interrupts.seen:
                return Status.INTERRUPTED
        return Status.UNSTABLE if self._grew(training) else training.ended or Status.MAX_EPOCHS

    def _grew(self, training: Training) -> bool:
        """Whether the loss is far above that of the first epoch; a score would have told."""
        curve = training.loss_curve[-training.epoch :] if training.epoch else []
        return self.score is None and len(curve) > 1 and curve[-1] > GREW * curve[0]

    def expand(self, params: Array) -> Array:
        """Parameters of X, from those of the rows as they come in batches.

        Parameters
        ----------
        params : array (n_params,)
            Of a training.

        Returns
        -------
        array (n_params,)
            The same where the batches are not shifted.
        """
        shift, xp = self.batches.shift, self.objective.backend.xp
        return params if shift is None else self.objective.network.moved(params, shift, xp=xp)

    def _epoch(self, training: Training, interrupts: Interrupts) -> float | None:
        """Mean loss of an epoch of steps; infinite where a parameter is, None if interrupted."""
        backend, n, total = self.objective.backend, 0, 0.0
        for batch in self.batches.epoch(self._order(training)):
            if interrupts.seen:
                return None
            training.step += 1
            value, gradient = self.objective.value_and_grad(training.params, batch, training.step)
            self.rule.update(
                training.params,
                gradient,
                training.memory,
                learning_rate=training.learning_rate,
                step=training.step,
                xp=backend.xp,
            )
            n += batch.Y.shape[0]
            total = total + value * batch.Y.shape[0]
        sum_of_params = backend.xp.sum(training.params, dtype=backend.xp.float64)
        loss, finite_if_all_are = backend.scalars(total / n, sum_of_params)
        training.t += n
        return loss if isfinite(finite_if_all_are) else inf

    def _order(self, training: Training) -> NDArray[np.intp] | None:
        """Rows of the next epoch; permutations add up, as scikit-learn's do."""
        if self.shuffle:
            permutation = np.arange(len(training.places))
            training.random_state.shuffle(permutation)
            training.places = training.places[permutation]
        elif self.rows is None:
            return None
        return training.places if self.rows is None else self.rows[training.places]

    def _judge(self, training: Training, loss: float, limits: Limits) -> Status | None:
        """Note an epoch's loss and score, set the next rate, and say whether it was the last."""
        training.epoch += 1
        training.loss_curve.append(loss)
        improved = loss < training.best_loss
        idle = loss > training.best_loss - limits.tol
        training.best_loss = min(loss, training.best_loss)
        if self.score is not None:
            score = self.score(self.expand(training.params))
            training.validation_scores.append(score)
            improved = score > training.best_score
            idle = not score >= training.best_score + limits.tol
            training.best_score = max(training.best_score, score)  # in this order NaN is not kept
        if improved:
            training.best_epoch = training.epoch
            self.objective.backend.xp.copyto(training.best_params, training.params)
        training.idle = training.idle + 1 if idle else 0
        training.learning_rate = self.schedule.after_epoch(
            self.initial_rate,
            training.learning_rate,
            t=training.t,
            share=training.epoch / limits.max_iter,
        )
        if training.idle <= limits.n_iter_no_change:
            return None
        rate = self.schedule.after_plateau(training.learning_rate)
        if rate is None:
            return Status.PLATEAU
        training.learning_rate, training.idle = rate, 0
        return None

    def _progress(self, training: Training, limits: Limits, elapsed_s: float) -> EpochProgress:
        scores = training.validation_scores
        return EpochProgress(
            n_iter=training.epoch,
            value=training.loss_curve[-1],
            validation_score=scores[-1] if scores else None,
            learning_rate=training.learning_rate,
            elapsed_s=elapsed_s,
            max_iter=limits.max_iter,
            params=lambda: self.expand(training.params),
        )
