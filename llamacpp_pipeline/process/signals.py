"""Ctrl-C, SIGTERM and a closed terminal: one exception, raised where it can be dealt with."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopping_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does.

    A signal that is ignored (nohup) stays ignored. Only the main thread can set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in STOPPING
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class HeldSignals:
    """Keeps a signal that arrives while a child is being started until it can be stopped.

    The handlers, not the signal mask, are changed: a child would inherit a blocked mask.
    """

    def __init__(self) -> None:
        self._arrived: list[int] = []
        self._before: dict[signal.Signals, object] = {}

    def hold(self) -> None:
        """From here on, signals that Python handles are only noted."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOPPING:
            if callable(signal.getsignal(number)):
                self._before[number] = signal.signal(number, self._note)

    def release(self) -> None:
        """Back to normal, with those that arrived raised now."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() returned
        while self._arrived:
            signal.raise_signal(self._arrived.pop())

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._arrived.append(number)
