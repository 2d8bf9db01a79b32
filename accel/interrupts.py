"""Ctrl-C and SIGTERM, noted now and acted on where nothing is cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

Handler = Any  # what signal.getsignal returns


class Interrupts:
    """Inside it the first Ctrl-C is noted in `seen`; a second one raises KeyboardInterrupt.

    In the main thread and where nobody else handles the signal; elsewhere it does nothing.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before: Handler = None

    def __enter__(self) -> Interrupts:
        self._before = _installed(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True


class SureInterrupts:
    """Inside it Ctrl-C raises KeyboardInterrupt, and `check` raises it again if nobody saw it.

    Python swallows what is raised in a destructor: one press in some twenty would be lost, and one
    SIGTERM inside a `Termination` likewise. In the main thread and where nobody else handles the
    signal; elsewhere it does nothing.
    """

    def __init__(self) -> None:
        self._seen = False
        self._before: Handler = None
        self._termination = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)

    def __enter__(self) -> SureInterrupts:
        self._before = _installed(self._raise)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one."""
        if self._seen or getattr(self._termination, "seen", False):
            raise KeyboardInterrupt

    def _raise(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._seen = True
        raise KeyboardInterrupt


def _installed(handler: Callable[[int, FrameType | None], None]) -> Handler:
    """The handler of Ctrl-C that was there before; None where this one has no place."""
    before = signal.getsignal(signal.SIGINT)
    is_ours = isinstance(getattr(before, "__self__", None), SureInterrupts)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not (is_ours or before is signal.default_int_handler):
        return None
    signal.signal(signal.SIGINT, handler)
    return before


class Termination:
    """Inside it SIGTERM does what Ctrl-C does, and is noted in `seen`.

    In the main thread and where nobody else handles the signal; elsewhere it does nothing.
    """

    def __init__(self) -> None:
        self.seen = False
        self._is_mine = False

    def __enter__(self) -> Termination:
        is_main = threading.current_thread() is threading.main_thread()
        self._is_mine = is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._is_mine:
            signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._is_mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.seen = True
        handler = signal.getsignal(signal.SIGINT)  # SIG_IGN in the background of a shell
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)
