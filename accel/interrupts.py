"""Ctrl-C and SIGTERM, noted now and acted on where nothing is cut in two."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupts:
    """Inside it the first Ctrl-C is noted in `seen`; a second one raises KeyboardInterrupt.

    In the main thread and where nobody else handles the signal; elsewhere it does nothing.
    """

    def __init__(self) -> None:
        self.seen = False
        self._is_mine = False

    def __enter__(self) -> Interrupts:
        is_main = threading.current_thread() is threading.main_thread()
        self._is_mine = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._is_mine:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._is_mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True


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
        signal.raise_signal(signal.SIGINT)
