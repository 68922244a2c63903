"""metrics.jsonl: a JSON object a line, {"step": ..., "time": ..., name: number, ...}; no step stands in it twice.
And files like it: spikes.jsonl, skipped.jsonl, health.jsonl.

A full disk does not stop the run: lines wait in memory, in order, until there is room (`base.lines`).
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
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


def append_metrics(path: Path, step: int, values: Mapping[str, Any]) -> None:
    """Adds one line, and hands it to the operating system at once, or when the disk has room again.

    UserError for what will not pass by itself: a folder that is gone, no right to write.
    """
    with told_plainly(path):
        _LINES.setdefault(path, Lines(path)).add(json.dumps({"step": step, "time": time.time(), **values}))


def note(path: Path, step: int, values: Mapping[str, Any]) -> None:
    """As append_metrics, in a file that the run can do without: what will not pass is a warning."""
    try:
        append_metrics(path, step, values)
    except UserError as error:
        get_logger().warning(f"step {step}: not noted in {path.name}: {error}")


@contextmanager
def all_metrics(path: Path) -> Iterator[None]:
    """At its end what a full disk kept waiting is written, of the files beside it too; a warning where lines are
    missing all the same."""
    try:
        yield
    finally:
        for one in [one for one in _LINES if one.parent == path.parent]:
            _end(one)


def _end(path: Path) -> None:
    lines = _LINES.pop(path)
    try:
        lines.write()
    except OSError as error:
        get_logger().warning(f"{path} cannot be written: {error.strerror}")
    if missing := lines.waiting + lines.lost:
        get_logger().warning(f"{path} lacks {missing:,} lines: the disk was full.")


def _step(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")
