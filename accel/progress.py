"""The progress line of a fit: of an optimisation, or of a training by batches."""

from __future__ import annotations

from functools import singledispatch
from math import inf, log
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Line

from accel.solvers import Progress
from accel.solvers.epochs import EpochProgress

LARGE_BYTES = 64 << 20  # read so far: below, a rate says nothing


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
    to_limit = _seconds_to_limit(first, now)
    if not 0 < now.tol < now.error < first.error:
        return to_limit
    share = log(first.error / now.error) / log(first.error / now.tol)
    return min(to_limit, (now.elapsed_s - first.elapsed_s) * (1 / share - 1))


def _seconds_to_limit(first: Any, now: Any) -> float:
    """Time to max_iter, at the rate since the first state."""
    done = now.n_iter - first.n_iter
    if done == 0:
        return inf
    return float((now.elapsed_s - first.elapsed_s) / done * (now.max_iter - now.n_iter))


@singledispatch
def words(now: Any, first: Any) -> tuple[str, float]:  # noqa: ARG001
    """What the line says of a state, and the seconds left."""
    raise TypeError(f"no words for {type(now).__name__}")


@words.register
def _(now: Progress, first: Any) -> tuple[str, float]:
    seconds, n_bytes = now.elapsed_s - first.elapsed_s, now.bytes_read - first.bytes_read
    text = f"{now.n_iter}: {now.value:.6f}, gradient {now.error:.1e}"
    if seconds > 0 and n_bytes >= LARGE_BYTES:
        text = f"{now.n_iter}: {now.value:.6f}, |g| {now.error:.1e}, {now.n_passes} passes"
        text += f", {_rate(n_bytes / seconds)}"
    return text, seconds_left(first, now)


@words.register
def _(now: EpochProgress, first: Any) -> tuple[str, float]:
    score = "" if now.validation_score is None else f", validation {now.validation_score:.4f}"
    text = f"epoch {now.n_iter}: loss {now.value:.6f}{score}"
    return text, _seconds_to_limit(first, now)


def _rate(bytes_a_second: float) -> str:
    unit, name = (1e9, "GB/s") if bytes_a_second >= 1e9 else (1e6, "MB/s")
    number = bytes_a_second / unit
    return f"{number:.1f} {name}" if number < 100 else f"{number:.0f} {name}"


def _left(seconds: float) -> str:
    """The end of the line: a time left, where one is known."""
    if seconds == inf:
        return ""
    limits = ((600, 1, "s"), (2 * 3600, 60, "min"), (inf, 3600, "h"))
    size, name = next((size, name) for limit, size, name in limits if seconds < limit)
    return f", {seconds / size:.0f} {name} left"


class ProgressLine:
    """Shows how a fit stands and the time left while it runs; use it as its callback.

    Parameters
    ----------
    console : Console
        Where to show it.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            BarColumn(bar_width=14),
            TextColumn("{task.description}"),
        )
        self._line = Line(*columns, console=console)
        self._task = self._line.add_task("starting", total=1.0)
        self._first: Any = None

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

    def __call__(self, progress: Any) -> None:
        """Show this state.

        Parameters
        ----------
        progress : Progress or EpochProgress
            State of the fit.
        """
        if self._first is None or progress.n_iter < self._first.n_iter:  # or tried anew elsewhere
            self._first = progress
        text, left_s = words(progress, self._first)
        known = left_s not in (0.0, inf)
        done = progress.elapsed_s / (progress.elapsed_s + left_s) if known else 0.0
        self._line.update(self._task, completed=done, description=text + _left(left_s))
