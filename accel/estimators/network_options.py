"""Constructor arguments of the networks, checked, in accel's terms."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from accel.backends.precision import PRECISIONS
from accel.estimators.arguments import (
    check_choice,
    check_count,
    check_flag,
    check_folder,
    check_input_scale,
    check_number,
    check_positive,
)
from accel.network import ACTIVATIONS, INITIALISATIONS
from accel.solvers.gd import GradientDescent
from accel.solvers.lbfgs import LBFGS
from accel.solvers.loop import Solver
from accel.solvers.rules import SCHEDULES, SGD, Adam, Rule, Schedule

Array = Any
BATCH = 200  # rows, where batch_size is "auto", as in scikit-learn


@dataclass(frozen=True)
class NetworkOptions:
    """The constructor's arguments after their checks.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Widths of the hidden layers.
    batch_size : int or None
        Rows of a batch; None for "auto".
    n_iter_no_change : float
        Epochs without improvement that are borne; may be infinite.
    checkpoint : Path or None
        Folder of checkpoints.

    Notes
    -----
    The other fields are the arguments of `accel.MLPClassifier` of the same name.
    """

    hidden_layer_sizes: tuple[int, ...]
    activation: str
    initialization: str
    solver: str
    alpha: float
    batch_size: int | None
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    tol: float
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    dropout: float
    precision: str
    center: bool
    input_scale: float
    checkpoint: Path | None
    checkpoint_every: int

    @property
    def schedule(self) -> Schedule:
        """Of the learning rate; scikit-learn's two that change it are for "sgd" only."""
        name = self.learning_rate
        if self.solver != "sgd" and name in ("invscaling", "adaptive"):
            name = "constant"
        schedule: Schedule = SCHEDULES[name](self.power_t)
        return schedule

    def rows_in_batch(self, n_rows: int) -> int:
        """Rows of a batch, at most all."""
        if self.batch_size is not None and self.batch_size > n_rows:
            warnings.warn(
                f"batch_size={self.batch_size} is more than the {n_rows} rows to train on: all of "
                "them are one batch.",
                stacklevel=6,
            )
        return min(self.batch_size or BATCH, n_rows)


# solver -> update rule, from the decay of every parameter and an array to write to (for AdamW), and
# a fused Adam if one pays
RULES: dict[str, Callable[..., Rule]] = {
    "sgd": lambda options, *_: SGD(options.momentum, options.nesterovs_momentum),
    "adam": lambda options, decay, work, fused: Adam(  # noqa: ARG005
        options.beta_1, options.beta_2, options.epsilon, fused=fused
    ),
    "adamw": lambda options, decay, work, fused: Adam(
        options.beta_1, options.beta_2, options.epsilon, decay, work, fused
    ),
}
FULL_BATCH: dict[str, Callable[[NetworkOptions], Solver]] = {
    "lbfgs": lambda options: LBFGS(),  # noqa: ARG005
    "gd": lambda options: GradientDescent(options.learning_rate_init),
}


def network_options(estimator: Any) -> NetworkOptions:
    """The arguments of a network estimator; ValueError names the first one that is wrong.

    Parameters
    ----------
    estimator : BaseEstimator
        A network.

    Returns
    -------
    NetworkOptions
        Its arguments.
    """
    e = estimator
    positive = partial(check_number, above=0, finite=True)
    at_least_0 = partial(check_number, at_least=0, finite=True)
    if e.callback is not None and not callable(e.callback):
        raise ValueError(f"callback={e.callback!r} must be a function of an EpochProgress.")
    check_count("verbose", int(e.verbose) if isinstance(e.verbose, bool) else e.verbose)
    check_positive("max_fun", e.max_fun)
    options = NetworkOptions(
        hidden_layer_sizes=_widths(e.hidden_layer_sizes),
        activation=check_choice("activation", e.activation, ACTIVATIONS),
        initialization=check_choice("initialization", e.initialization, INITIALISATIONS),
        solver=check_choice("solver", e.solver, [*RULES, *FULL_BATCH]),
        alpha=at_least_0("alpha", e.alpha),
        batch_size=None if _is_auto(e.batch_size) else check_positive("batch_size", e.batch_size),
        learning_rate=check_choice("learning_rate", e.learning_rate, SCHEDULES),
        learning_rate_init=positive("learning_rate_init", e.learning_rate_init),
        power_t=at_least_0("power_t", e.power_t),
        max_iter=check_positive("max_iter", e.max_iter),
        shuffle=check_flag("shuffle", e.shuffle),
        tol=check_number("tol", e.tol, at_least=0),
        warm_start=check_flag("warm_start", e.warm_start),
        momentum=_share("momentum", e.momentum, with_one=True),
        nesterovs_momentum=check_flag("nesterovs_momentum", e.nesterovs_momentum),
        early_stopping=check_flag("early_stopping", e.early_stopping),
        validation_fraction=_share("validation_fraction", e.validation_fraction),
        beta_1=_share("beta_1", e.beta_1),
        beta_2=_share("beta_2", e.beta_2),
        epsilon=positive("epsilon", e.epsilon),
        n_iter_no_change=_patience(e.n_iter_no_change),
        dropout=_share("dropout", e.dropout),
        precision=check_choice("precision", e.precision, PRECISIONS),
        center=check_flag("center", e.center),
        input_scale=check_input_scale(e.input_scale),
        checkpoint=check_folder("checkpoint", e.checkpoint),
        checkpoint_every=check_positive("checkpoint_every", e.checkpoint_every),
    )
    if options.checkpoint is not None and options.warm_start:
        raise ValueError("checkpoint goes on from its own state: set warm_start=False.")
    holds_out = options.early_stopping and options.solver in RULES
    if options.checkpoint is not None and holds_out and e.random_state is None:
        raise ValueError(
            "random_state=None holds out other rows after a checkpoint with early_stopping: give a "
            "number."
        )
    if options.solver in FULL_BATCH:
        _refuse_with_full_batch(options)
    return options


def _refuse_with_full_batch(options: NetworkOptions) -> None:
    """What only a training by batches does, asked of a solver that uses all rows at once."""
    asked = {
        f"dropout={options.dropout}": options.dropout > 0,
        f"precision={options.precision!r}": options.precision != "float32",
        f"center={options.center}": options.center,
    }
    for what, is_asked in asked.items():
        if is_asked:
            raise ValueError(
                f"{what} does nothing with solver={options.solver!r}: use {', '.join(RULES)}."
            )


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _widths(sizes: Any) -> tuple[int, ...]:
    """Hidden widths: a number is one layer, an empty tuple none."""
    given = np.atleast_1d(sizes).tolist() if isinstance(sizes, np.ndarray) else sizes
    given = list(given) if isinstance(given, list | tuple | range) else [given]
    for width in given:
        if not isinstance(width, Integral) or isinstance(width, bool) or width <= 0:
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes!r}: pass integers.")
    return tuple(int(width) for width in given)


def _share(name: str, value: Any, *, with_one: bool = False) -> float:
    """A number from 0 to 1, without 1 or with it."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not (0 <= value < 1 or (with_one and value == 1)):
        end = "at most" if with_one else "below"
        raise ValueError(f"{name}={value!r} must be a number at least 0 and {end} 1.")
    return float(value)


def _patience(value: Any) -> float:
    if isinstance(value, Real) and value == inf:
        return inf
    return check_positive("n_iter_no_change", value)
