"""metrics.jsonl: a JSON object a line, {"step": ..., "time": ..., name: number, ...}; no step stands in it twice."""

import json
import time
from pathlib import Path

from pipeline.base.files import told_plainly, write_atomic


def cut_metrics(path: Path, step: int) -> None:
    """Drops the lines after `step`, which a run going on from there writes again, and a line that a kill cut off."""
    if not path.is_file():
        return
    content = path.read_bytes()
    kept = b"".join(line for line in content.splitlines(keepends=True) if _step(line) <= step)
    if kept != content:
        write_atomic(path, kept)


def append_metrics(path: Path, step: int, values: dict[str, float]) -> None:
    """Adds one line, and hands it to the operating system at once."""
    with told_plainly(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "time": time.time()} | values) + "\n")


def _step(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")
