"""log/tasks.jsonl of a run: a line for each task that was done, so that work done twice, or slow work, can be seen.

{"pass", "task", "seconds", "time"}: a finished task that is taken up after a kill has no second line.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from pipeline.base.files import told_plainly
from pipeline.base.run_folder import RunFolder


class TaskLog:
    """Appends to the file; `of` opens it for one pass."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.log / "tasks.jsonl"
        self.name = ""
        self.file: IO[str] | None = None

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Lines of the pass of that name."""
        with told_plainly(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        self.name = name
        try:
            yield
        finally:
            with told_plainly(self.path):
                self.file.close()

    def write(self, task: int, seconds: Any) -> None:
        """One finished task."""
        line = {"pass": self.name, "task": task, "seconds": round(seconds, 3), "time": round(time.time(), 3)}
        assert self.file is not None
        with told_plainly(self.path):
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
