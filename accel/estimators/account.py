"""The account of a fit: what was chosen and why, what it read, how long it took, where it ran."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sklearn.utils.validation import check_is_fitted

from accel.backends import BackendReport

WIDTH = 80


@dataclass
class Stages:
    """Seconds spent in each named stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the body of a with statement."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Account:
    """What `explain` tells.

    Parameters
    ----------
    what : str
        Estimator, shape, dtype and penalty.
    backend : BackendReport
        Where it ran, and what fell back.
    reasons : tuple of str
        One sentence for each decision.
    passes : mapping of str to int
        Reads of X, by what they were for.
    small_passes : mapping of str to int
        The same over the rows of a reduced problem, which are not reads of X.
    seconds : mapping of str to float
        Time of each stage.
    ending : str
        How it ended, with the certificate.
    """

    what: str
    backend: BackendReport
    reasons: tuple[str, ...]
    passes: Mapping[str, int]
    small_passes: Mapping[str, int]
    seconds: Mapping[str, float]
    ending: str

    def __str__(self) -> str:
        libraries = ", ".join(f"{name} {version}" for name, version in
                              self.backend.libraries.items())  # fmt: skip
        stages = ", ".join(f"{name} {_time(s)}" for name, s in self.seconds.items())
        items = [
            ("", self.what),
            ("where", f"{self.backend} ({libraries})" if libraries else str(self.backend)),
            *(("why", reason) for reason in self.reasons),
            ("passes", f"{_counts(self.passes)} over X"),
            ("", _counts(self.small_passes) + " over the reduced rows"
             if self.small_passes else ""),
            ("time", f"{_time(sum(self.seconds.values()))}: {stages}"),
            ("end", self.ending),
        ]  # fmt: skip
        return "\n".join(item(name, text) for name, text in items if text)


class Explained:
    """An estimator that keeps the account of its fit."""

    def explain(self) -> str:
        """What the last fit did: choices and reasons, passes over X, time, place, ending.

        Returns
        -------
        str
            Lines of at most 80 columns.
        """
        check_is_fitted(self)
        return str(vars(self)["account_"])


def item(name: str, text: str) -> str:
    """A word in the margin and its text, folded."""
    margin = f"{name:8}" if name else ""
    return textwrap.fill(
        text, WIDTH, initial_indent=margin, subsequent_indent=" " * 8, break_on_hyphens=False
    )


def _counts(passes: Mapping[str, int]) -> str:
    parts = ", ".join(f"{count} {purpose}" for purpose, count in passes.items())
    return f"{sum(passes.values())} ({parts})" if passes else "0"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
