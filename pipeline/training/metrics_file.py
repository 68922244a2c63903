"""metrics.jsonl: a JSON object a line, {"step": ..., "time": ..., name: number, ...}; no step stands in it twice.

A full disk does not stop the run: lines wait in memory, in order, until there is room (`base.lines`).
"""

import json
import time
from pathlib import Path

from pipeline.base.files import told_plainly, write_atomic
from pipeline.base.lines import Lines
from pipeline.base.log import get_logger

_LINES: dict[Path, Lines] = {}
"""Of this process, by file."""


def cut_metrics(path: Path, step: int) -> None:
    """Drops the lines after `step`, which a run going on from there writes again, and a line that a kill cut off."""
    if path in _LINES:
        _LINES[path].drop(lambda line: _step(line) > step)
    if not path.is_file():
        return
    content = path.read_bytes()
    kept = b"".join(line for line in content.splitlines(keepends=True) if _step(line) <= step)
    if kept != content:
        write_atomic(path, kept)


def append_metrics(path: Path, step: int, values: dict[str, float]) -> None:
    """Adds one line, and hands it to the operating system at once, or when the disk has room again.

    UserError for what will not pass by itself: a folder that is gone, no right to write.
    """
    with told_plainly(path):
        _LINES.setdefault(path, Lines(path)).add(json.dumps({"step": step, "time": time.time()} | values))


def write_waiting(path: Path) -> bool:
    """Writes the lines that a full disk kept waiting; whether there are none left. UserError as `append_metrics`."""
    lines = _LINES.get(path)
    with told_plainly(path):
        return lines is None or lines.write()


def end_metrics(path: Path) -> None:
    """At the end of a run: a warning where lines still wait, or were given up."""
    written, lines = write_waiting(path), _LINES.pop(path, None)
    if lines is not None and (not written or lines.lost):
        get_logger().warning(f"{path} lacks {lines.waiting + lines.lost:,} lines: the disk was full.")


def _step(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")
