"""Memory of this host that a process may still take: what the system has free, within the limit of a container."""

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
LIMITS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Limit, use, statistics and the part of the use that can be taken back, of cgroups version 2 and 1."""


def free_memory(system: Path = Path("/proc/meminfo"), cgroups: Path = CGROUPS) -> int | None:
    """Bytes; None where the system does not tell (not Linux)."""
    free = _field(system, "MemAvailable:")
    if free is None:
        return None
    left = [1024 * free]
    for limit, used, statistics, again in LIMITS:
        most, now = _number(cgroups / limit), _number(cgroups / used)
        if most is not None and now is not None:
            left.append(max(0, most - now + (_field(cgroups / statistics, again) or 0)))
    return min(left)


def _number(path: Path) -> int | None:
    """A file of one number; None where there is none, or "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _field(path: Path, name: str) -> int | None:
    """The number behind a name, of a file of such lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), None)
