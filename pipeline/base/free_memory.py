"""Memory of this host that a process may still take: what the system has free, within the limits of its containers."""

from collections.abc import Iterator
from pathlib import Path

V2 = ("memory.max", "memory.current", "memory.stat", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file")
"""Of a cgroup of version 2 and 1: limit, use, statistics, and the part of the use that can be taken back."""


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes; None where the system does not tell (not Linux). root: below which proc and sys lie."""
    free = _field(root / "proc" / "meminfo", "MemAvailable:")
    if free is None:
        return None
    left = [1024 * free]
    for folder, (limit, used, statistics, again) in _groups(root):
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None:
            left.append(max(0, most - now + (_field(folder / statistics, again) or 0)))
    return min(left)


def _groups(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The groups that this process is in, and those above them; as a container sees it, its own is at the top."""
    base = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, files = (base / "memory", V1) if controllers else (base, V2)
        folder = top / path.lstrip("/")
        for one in (folder, *folder.parents):
            yield one, files
            if one == top:
                break


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
