"""How a fit ended."""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    """How a fit ended; the value is a sentence that says what to do."""

    CONVERGED = (
        "max|gradient| is at most tol, and what is left to gain does not matter: nothing to do."
    )
    SEPARABLE = (
        "the classes can be told apart without error and no penalty holds the coefficients, which "
        "would grow for ever: lower C, or take them as they are, large enough for max|gradient| "
        "to be at most tol."
    )
    ROUNDING = (
        "the objective is at its minimum to the last digits that its dtype holds: nothing to do; "
        "max|gradient| is above tol by rounding only."
    )
    MAX_ITER = (
        "max_iter ended the fit before max|gradient| came down to tol and nothing was left to "
        "gain: raise max_iter or tol."
    )
    STALLED = (
        "rounding hides any further decrease of the objective: raise tol, scale X, or pass X as "
        "float64 if it is not."
    )
    DIVERGED = (
        "the objective grew or overflowed: lower learning_rate if the solver is gd, else scale X "
        "or lower C. The parameters are the last finite ones."
    )
    PLATEAU = (
        "the loss, or the validation score with early_stopping, no longer improves by tol: nothing "
        "to do."
    )
    MAX_EPOCHS = (
        "max_iter ended the training while it still improved: raise max_iter to train on, or tol."
    )
    ONE_EPOCH = "partial_fit trains one epoch: call it again to train on."
    UNSTABLE = (
        "the loss grew or overflowed: lower learning_rate_init, or scale X. The parameters are the "
        "last finite ones."
    )
    UNSAVED = "the checkpoint could not be written: the parameters are those of that moment."
    STOPPED = "the callback asked to stop: the parameters are those of that moment."
    INTERRUPTED = "the keyboard interrupted the fit: the parameters are those of that moment."


# Endings that a fit warns of.
UNFINISHED = frozenset(
    {Status.MAX_ITER, Status.STALLED, Status.DIVERGED, Status.MAX_EPOCHS, Status.UNSTABLE}
)
