"""Notices that the launcher is gone, so that ranks do not train on as orphans.

`deepspeed` starts a process a host (deepspeed.launcher.launch), which starts the ranks; torch's elastic agent starts
them itself. After the launcher's death nobody would end the ranks, and they would keep the machine and the run's
folder. Under other launchers, and under none, the processes above may come and go. Linux only; elsewhere nothing is
noticed. Price: a few microseconds a look.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.base.processes import birth_of, parent_of

LAUNCHER = b"deepspeed.launcher.launch"
DEEPSPEEDS, ELASTIC = "CROSS_SIZE", "TORCHELASTIC_RUN_ID"
"""What either sets in the ranks' environment."""


class LauncherWatch:
    """Remembers the processes that started this one: deepspeed's launcher and what started that, or the agent."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.orphan = False
        watched: list[int] = []
        if LAUNCHER in _command_of(os.getppid()):
            watched = [process for process in (os.getppid(), parent_of(os.getppid())) if process]
        elif ELASTIC in environment:
            watched = [os.getppid()]
        elif DEEPSPEEDS in environment:  # it may have ended while this process was starting
            self.orphan = not any(LAUNCHER in _command_of(process) for process in _ancestors())
        self.watched = [(process, birth_of(process)) for process in watched]

    def gone(self) -> bool:
        """Whether one of them has ended."""
        return self.orphan or any(birth is None or birth_of(process) != birth for process, birth in self.watched)


def _ancestors() -> list[int]:
    found = [os.getppid()]
    while (above := parent_of(found[-1])) is not None and above > 0:
        found.append(above)
    return found


def _command_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
