"""The progress line of a fit."""

from __future__ import annotations

from math import log
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Line

from accel.solvers import Progress


def seconds_left(first: Progress, now: Progress) -> float:
    """Time to the tolerance at the rate max|gradient| has fallen so far, or to max_iter if sooner.

    Parameters
    ----------
    first, now : Progress
        The first and the present state of the fit.

    Returns
    -------
    float
        Seconds.
    """
    if now.n_iter == 0:
        return float("inf")
    to_limit = now.elapsed_s / now.n_iter * (now.max_iter - now.n_iter)
    if not 0 < now.tol < now.error < first.error:
        return to_limit
    share = log(first.error / now.error) / log(first.error / now.tol)
    return min(to_limit, now.elapsed_s * (1 / share - 1))


class ProgressLine:
    """Shows objective, max|gradient| and time left while a fit runs; use it as its callback.

    Parameters
    ----------
    console : Console
        Where to show it.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("training"),
            BarColumn(bar_width=16),
            TextColumn("{task.description}"),
        )
        self._line = Line(*columns, console=console)
        self._task = self._line.add_task("starting", total=1.0)
        self._first: Progress | None = None

    def __enter__(self) -> ProgressLine:
        self._line.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is None:
            self._line.update(self._task, completed=1.0)
        self._line.stop()

    def __call__(self, progress: Progress) -> None:
        """Show this state.

        Parameters
        ----------
        progress : Progress
            State of the fit.
        """
        self._first = self._first or progress
        left_s = seconds_left(self._first, progress)
        left = "" if left_s == float("inf") else f", {left_s:.0f} s left"
        done = progress.elapsed_s / (progress.elapsed_s + left_s) if left else 0.0
        text = f"{progress.n_iter}: {progress.value:.6f}, gradient {progress.error:.1e}{left}"
        self._line.update(self._task, completed=done, description=text)
