"""What MLflow shall know of a run, a JSON object a line, appended to a file: nothing here speaks to a server.

Whoever owns the run sends the file on (pipeline/base/tracking.py), at once or later, from this process or another one
that sees the same file. Price: a full disk costs points, with a warning, never the work.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.base.files import told_plainly
from pipeline.base.log import get_logger


class Journal:
    """An open journal file; without a path all calls do nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.has_model = path, False
        self._broken = False
        if path is None:
            return
        with told_plainly(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - for the life of the journal

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Points at a step."""
        self._write({"kind": "metrics", "step": step, "time": int(time.time() * 1000), "values": values})

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

    def close(self) -> None:
        """No more calls."""
        if self.path is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take
                self._file.close()

    def written(self) -> None:
        """Called after each line; for those who send at once."""

    def _write(self, entry: dict[str, Any]) -> None:
        if self.path is None:
            return
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:  # a full disk is told by what the stage itself writes
            if not self._broken:
                get_logger().warning(f"{self.path} cannot be written, MLflow will miss points: {error}")
            self._broken = True
        self.written()


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:6000]
