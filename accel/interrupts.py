"""Ctrl-C and SIGTERM, noted now and acted on where nothing is cut in two."""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from types import FrameType, TracebackType
from typing import Any, Self


class _Handling(ABC):
    """Inside it a signal is handled by `_handle`, and afterwards as before.

    In the main thread and where nobody else handles the signal; elsewhere it does nothing.
    """

    signal_number = signal.SIGINT
    nobody: Any = signal.default_int_handler  # the handler where there is no other

    def __init__(self) -> None:
        self.seen = False
        self._before: Any = None

    def __enter__(self) -> Self:
        before = signal.getsignal(self.signal_number)
        is_free = before == self.nobody or isinstance(_owner(before), SureInterrupts)
        if is_free and threading.current_thread() is threading.main_thread():
            self._before = before
            signal.signal(self.signal_number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(self.signal_number, self._before)

    @abstractmethod
    def _handle(self, number: int, frame: FrameType | None) -> None:
        """What Python calls."""


def _owner(handler: Any) -> Any:
    """What a handler is a method of."""
    return getattr(handler, "__self__", None)


class Interrupts(_Handling):
    """Inside it the first Ctrl-C is noted in `seen`; a second one raises KeyboardInterrupt."""

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True


class SureInterrupts(_Handling):
    """Inside it Ctrl-C raises KeyboardInterrupt, and `check` raises it again if nobody saw it.

    Python swallows what is raised in a destructor: one press in some twenty would be lost, and one
    SIGTERM inside a `Termination` likewise.
    """

    def __init__(self) -> None:
        super().__init__()
        self._termination = _owner(signal.getsignal(signal.SIGTERM))

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one."""
        if self.seen or getattr(self._termination, "seen", False):
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.seen = True
        raise KeyboardInterrupt


class Termination(_Handling):
    """Inside it SIGTERM does what Ctrl-C does, and is noted in `seen`."""

    signal_number = signal.SIGTERM
    nobody = signal.SIG_DFL

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.seen = True
        handler = signal.getsignal(signal.SIGINT)  # SIG_IGN in the background of a shell
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)
