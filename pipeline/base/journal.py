"""What MLflow shall know of a run, a JSON object a line, appended to a file: nothing here speaks to a server.

Whoever owns the run sends the file on (pipeline/base/tracking.py), at once or later, from this process or another one
that sees the same file. A point that stands in it already is not written again: MLflow takes a repeated one, and cannot
delete it. Price: the file is read once when it is opened; on a full disk points wait in memory (`lines`).
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.files import told_plainly
from pipeline.base.lines import Lines
from pipeline.base.log import get_logger

STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED")


class Journal:
    """An open journal file; without a path all calls do nothing. Safe to use from several threads.

    once: each step has one point of a name, the first: for a run that goes back to a checkpoint and passes through the
    same steps again. Otherwise only a point of the same value is left out.
    """

    def __init__(self, path: Path | None, *, once: bool = False) -> None:
        self.path, self.has_model = path, False
        self._broken = False
        if path is None:
            return
        with told_plainly(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self._lines, self._written = Lines(path), _Written(once)
        for entry in read_journal(path):
            if entry.get("kind") == "metrics":
                self._written.take(entry["step"], entry["values"])

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Points at a step, but for those that the journal has."""
        new = self._written.take(step, values) if self.path is not None else {}
        if new:
            self._write({"kind": "metrics", "step": step, "time": int(time.time() * 1000), "values": new})

    def params(self, values: dict[str, Any]) -> None:
        """Parameters; MLflow never changes one that is set, so a value changed on resume becomes a tag."""
        self._write({"kind": "params", "values": {key: _shown(value) for key, value in values.items()}})

    def tags(self, values: dict[str, str]) -> None:
        """Tags of the run."""
        self._write({"kind": "tags", "values": {key: str(value) for key, value in values.items()}})

    def artifact(self, path: Path) -> None:
        """A small file to keep with the run."""
        self._write({"kind": "artifact", "path": str(Path(path).resolve())})

    def model(self, path: Path, task: str, requirements: Sequence[str], *, pairs: bool = False) -> None:
        """A folder of transformers to keep with the run as an MLflow model; `task` is transformers' pipeline name.

        pairs: it takes two texts at a time.
        """
        self.has_model = self.path is not None
        entry = {"path": str(Path(path).resolve()), "task": task, "requirements": list(requirements), "pairs": pairs}
        self._write({"kind": "model"} | entry)

    def status(self, status: str) -> None:
        """RUNNING, FINISHED, FAILED or KILLED."""
        self._write({"kind": "status", "status": status})

    def sync(self) -> None:
        """Waits until all lines are on the disk itself; what still waits in memory is tried again."""
        if self.path is not None:
            self._try("")
            self._lines.sync()

    def close(self) -> None:
        """No more calls; a warning where the disk has not taken everything."""
        self.sync()
        if self.path is not None and (lost := self._lines.waiting + self._lines.lost):
            get_logger().warning(f"{self.path} lacks {lost:,} lines, and MLflow their points: the disk was full")

    def written(self) -> None:
        """Called after each line; for those who send at once."""

    def _write(self, entry: dict[str, Any]) -> None:
        if self.path is not None:
            self._try(json.dumps(entry))
            self.written()

    def _try(self, line: str) -> None:
        """Adds a line, if there is one, and writes what waits; never raises what a disk has."""
        try:
            if line:
                self._lines.add(line)
            else:
                self._lines.write()
        except OSError as error:  # gone, or not ours: told by what the stage itself writes
            if not self._broken:
                get_logger().warning(f"{self.path} cannot be written, MLflow will miss points: {error}")
            self._broken = True


class _Written:
    """Which points a journal has. once: a bit for each step and name; else their last values."""

    def __init__(self, once: bool) -> None:
        self.once = once
        self._steps: dict[str, bytearray] = {}
        self._values: dict[tuple[str, int], float] = {}

    def take(self, step: int, values: dict[str, float]) -> dict[str, float]:
        """The points that are new; they are known from here on."""
        return {name: value for name, value in values.items() if self._take(name, step, value)}

    def _take(self, name: str, step: int, value: float) -> bool:
        if not self.once or step >= _MOST_BITS:
            before = self._values.get((name, step))
            self._values[name, step] = value
            return before != value
        bits, (place, bit) = self._steps.setdefault(name, bytearray()), divmod(step, 8)
        bits.extend(bytes(max(0, place + 1 - len(bits))))
        known = bool(bits[place] >> bit & 1)
        bits[place] |= 1 << bit
        return not known


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal that can be read, in order."""
    with told_plainly(path), open(path, "rb") as file:
        for line in file:
            entry = read_line(line)
            if entry is not None:
                yield entry


def read_line(line: bytes) -> dict[str, Any] | None:
    """A line's entry; None where it is cut off, or is none that a Journal writes."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    shape = _SHAPES.get(str(entry.get("kind"))) if isinstance(entry, dict) else None
    return entry if shape is not None and _fits(entry, shape) else None


_SHAPES: dict[str, dict[str, type]] = {
    "metrics": {"step": int, "time": int, "values": dict},
    "params": {"values": dict},
    "tags": {"values": dict},
    "artifact": {"path": str},
    "model": {"path": str, "task": str, "requirements": list, "pairs": bool},
    "status": {"status": str},
}
_LARGEST = 1 << 63
"""Steps, times and whole values are below."""
_MOST_BITS = 1 << 26
"""Steps from here on are not kept as bits."""


def _fits(entry: Any, shape: dict[str, type]) -> bool:
    """Whether the entry has what its kind has, of values that MLflow's stores can hold."""
    if any(type(entry.get(key)) is not kind for key, kind in shape.items()):
        return False
    if entry["kind"] == "status":
        return entry["status"] in STATUSES
    if "path" in shape:
        return Path(entry["path"]).is_absolute() and entry["path"].isprintable()
    if entry["kind"] != "metrics":
        return all(isinstance(value, str) for value in entry.get("values", {}).values())
    values = entry["values"].values()
    numbers = all(type(value) is float or (type(value) is int and abs(value) < _LARGEST) for value in values)
    return numbers and 0 <= entry["step"] < _LARGEST and 0 <= entry["time"] < _LARGEST


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:6000]
