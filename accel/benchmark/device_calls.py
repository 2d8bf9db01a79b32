"""Calls on a GPU: what is asked of it, timed by its own clock, and what brings the result back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from accel.benchmark.timer import rounds_for

Array = Any
MOST_ROUNDS = 200
WARM_UPS = 3


class Clock(Protocol):
    """Events of a GPU, recorded on the stream where calls are launched."""

    def event(self) -> Any:
        """A new event; it has ``record`` and ``synchronize``."""

    def seconds(self, first: Any, last: Any) -> float:
        """Time between two recorded events."""


@dataclass(frozen=True)
class CupyClock:
    """Events of CuPy.

    Parameters
    ----------
    cupy : module
        CuPy.
    """

    cupy: Any

    def event(self) -> Any:
        """On the current stream."""
        return self.cupy.cuda.Event()

    def seconds(self, first: Any, last: Any) -> float:
        """From milliseconds."""
        return float(self.cupy.cuda.get_elapsed_time(first, last)) / 1e3


@dataclass(frozen=True)
class TorchClock:
    """Events of PyTorch.

    Parameters
    ----------
    torch : module
        PyTorch.
    """

    torch: Any

    def event(self) -> Any:
        """On the current stream."""
        return self.torch.cuda.Event(enable_timing=True)

    def seconds(self, first: Any, last: Any) -> float:
        """From milliseconds."""
        return float(first.elapsed_time(last)) / 1e3


@dataclass(frozen=True)
class DeviceCall:
    """A computation whose result stays on a GPU until it is fetched.

    Parameters
    ----------
    launch : callable
        () -> result on the GPU; nothing waits.
    fetch : callable
        (result) -> the same on the host; waits.
    clock : Clock
        Of the GPU.
    """

    launch: Callable[[], Any]
    fetch: Callable[[Any], Any]
    clock: Clock

    def __call__(self) -> Any:
        """Launch and fetch: what a caller on the host waits for."""
        return self.fetch(self.launch())


def device_samples(call: DeviceCall, once_s: float, budget_s: float) -> list[float]:
    """Seconds of each round by the GPU's clock, one launched behind the other, nothing fetched.

    Parameters
    ----------
    call : DeviceCall
        What to time.
    once_s : float
        About how long one takes.
    budget_s : float
        Seconds to spend, about.

    Returns
    -------
    list of float
        One for each round.
    """
    for _ in range(WARM_UPS):
        call.launch()
    rounds = max(rounds_for(once_s, budget_s), min(MOST_ROUNDS, int(budget_s / 4 / once_s)))
    events = [call.clock.event() for _ in range(rounds + 1)]
    events[0].record()
    for event in events[1:]:
        call.launch()
        event.record()
    events[-1].synchronize()
    return [call.clock.seconds(first, last) for first, last in pairwise(events)]
