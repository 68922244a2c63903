"""Processes as the kernel knows them, by number and birth: a number alone is given again. Linux only, from /proc."""

import os
import time
from pathlib import Path


def machine() -> str:
    """This start of this machine, and the space in which its processes have their numbers; empty where not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def birth_of(process: int) -> int | None:
    """When a process started, in the kernel's ticks: the same number at another time is another process. None: gone."""
    status = _status_of(process)
    return None if status is None or status[0] in "ZX" else int(status[19])


def own_age() -> float | None:
    """Seconds since this process began, before any import; None where the kernel does not tell."""
    birth = birth_of(os.getpid())
    return None if birth is None else time.clock_gettime(time.CLOCK_BOOTTIME) - birth / os.sysconf("SC_CLK_TCK")


def parent_of(process: int) -> int | None:
    """The process that started it, or that has inherited it; None where there is none."""
    status = _status_of(process)
    return None if status is None else int(status[1])


def _status_of(process: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return status.rpartition(")")[2].split()  # the name before may hold blanks and brackets
