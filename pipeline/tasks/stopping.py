"""SIGTERM and SIGUSR1 (Slurm's notice) ask a fine-tuning to keep its state and end; a second one ends it at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.base.signals import caught

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Within it the signals are caught; the function says whether one came."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(number, signal.SIG_DFL)

    with caught(SIGNALS, note):
        yield lambda: bool(came)
