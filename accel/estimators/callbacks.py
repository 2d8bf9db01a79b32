"""scikit-learn's callbacks (1.9 and newer) on accel's progress, without importing them unasked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Array = Any


class CallbackSupport:
    """What scikit-learn looks for on an estimator that calls its callbacks."""

    def set_callbacks(self, *callbacks: Any) -> Any:
        """Register scikit-learn callbacks; see `sklearn.callback`.

        Parameters
        ----------
        *callbacks : FitCallback
            For instance `sklearn.callback.ProgressBar()`; none to take them away.

        Returns
        -------
        estimator
            This one.
        """
        from sklearn.callback import CallbackSupportMixin

        return CallbackSupportMixin.set_callbacks(self, *callbacks)

    def _init_callback_context(self, **options: Any) -> Any:
        from sklearn.callback import CallbackSupportMixin

        return CallbackSupportMixin._init_callback_context(self, **options)


def has_callbacks(estimator: Any) -> bool:
    """Whether scikit-learn's callbacks want to hear of this fit, directly or from above."""
    attributes = vars(estimator)
    return "_skl_callbacks" in attributes or "_parent_callback_ctx" in attributes


def managed(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, with the callbacks torn down after it, however it ends."""
    from sklearn.callback import with_callbacks

    wrapped: Callable[..., Any] = with_callbacks(method)
    return wrapped


class FitTasks:
    """The task of a fit and one subtask for each update, told to scikit-learn's callbacks.

    Parameters
    ----------
    estimator : CallbackSupport
        Being fitted.
    max_iter : int
        Largest number of updates.
    X, y, sample_weight : array
        As they were given.
    """

    def __init__(
        self, estimator: Any, *, max_iter: int, X: Array, y: Array, sample_weight: Array
    ) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._about = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._whole = estimator._init_callback_context(max_subtasks=max_iter + 1)
        self._whole.call_on_fit_task_begin(**self._about)
        self._update: Any = None

    def update(self, fitted: Callable[[], Mapping[str, Any]]) -> bool:
        """End the running update and begin the next; true asks to stop.

        Parameters
        ----------
        fitted : callable
            () -> the fitted attributes as they are now; called only if a callback wants them.

        Returns
        -------
        bool
            Whether a callback wants the fit to end.
        """
        stop = self._end_update(fitted)
        self._update = self._whole.subcontext(task_name="update")
        self._update.call_on_fit_task_begin(**self._about, reconstruction_attributes=fitted)
        return stop

    def end(self, fitted: Callable[[], Mapping[str, Any]]) -> None:
        """End the last update and the fit."""
        self._end_update(fitted)
        self._whole.call_on_fit_task_end(**self._about, reconstruction_attributes=fitted)

    def _end_update(self, fitted: Callable[[], Mapping[str, Any]]) -> bool:
        if self._update is None:
            return False
        return bool(
            self._update.call_on_fit_task_end(**self._about, reconstruction_attributes=fitted)
        )
