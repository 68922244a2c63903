"""Signals that ask a run to stop: caught for a while, their handlers put back afterwards. Main thread only.

A handler of Python's runs only when the main thread is back from the C code that it is in, a wait for other ranks for
one; `heard` hands the signals over to any thread at once.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_pipes: list[int] = []
"""Where the numbers of the signals are read, while `heard` holds."""


@contextmanager
def caught(numbers: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within it `handler` has these signals."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def heard(numbers: Sequence[signal.Signals] = STOP_SIGNALS) -> Iterator[int]:
    """Within it these signals do nothing but to write their number, a byte each, into the pipe that is yielded.

    Held already further out, it yields that one's pipe.
    """
    if _pipes:
        yield _pipes[-1]
        return
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _pipes.append(reading)
    try:
        with caught(numbers, _noted):
            yield reading
    finally:
        _pipes.clear()
        signal.set_wakeup_fd(before)
        os.close(writing)
        os.close(reading)


def read_numbers(pipe: int) -> bytes:
    """The numbers that have come since the last call."""
    try:
        return os.read(pipe, 64)
    except BlockingIOError:
        return b""


def _noted(number: int, frame: FrameType | None) -> None:
    """The pipe has it."""
