"""Notices that the deepspeed launcher is gone, so that ranks do not train on as orphans.

`deepspeed` starts a process a host (deepspeed.launcher.launch), which starts the ranks. On one host no signal
is handed on to them, and after its death they would keep the machine and the run's folder. Only that launcher is
watched: under others, and under none, the processes above may come and go. Linux only; elsewhere nothing is noticed.
"""

import os
from pathlib import Path

LAUNCHER = b"deepspeed.launcher.launch"


class LauncherWatch:
    """Remembers the two processes above this one at its start."""

    def __init__(self) -> None:
        self.parent = os.getppid()
        self.grandparent = _parent_of(self.parent) if LAUNCHER in _command_of(self.parent) else None

    def gone(self) -> bool:
        """Whether one of them has ended since. A few microseconds."""
        if self.grandparent is None:
            return False
        return os.getppid() != self.parent or _parent_of(self.parent) != self.grandparent


def _command_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _parent_of(process: int) -> int | None:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[1])  # the name before may hold blanks and brackets
