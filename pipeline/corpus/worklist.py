"""The work list: every task of a run in one file, written once, from which workers and driver read one by its number.

Neither the driver nor the arguments of a task grow with the corpus. tasks.jsonl has a line a task; tasks.npy (tasks, 3)
int64 its offset, its bytes, and about how much text it reads. Price: one small read a task.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pipeline.base.arrays import npy_bytes
from pipeline.base.files import complete_file, is_remote, write_atomic
from pipeline.corpus.files import InputFile
from pipeline.corpus.tasks import Span, Task


def write_worklist(folder: Path, tasks: Iterable[Task]) -> "WorkList":
    """Writes the files of the work list, the index last."""
    rows: list[tuple[int, int, int]] = []
    offset = 0
    with complete_file(folder / "tasks.jsonl") as aside, open(aside, "wb") as file:
        for task in tasks:
            line = (json.dumps(_plain(task)) + "\n").encode()
            file.write(line)
            rows.append((offset, len(line), task.weight))
            offset += len(line)
    index = np.array(rows, np.int64).reshape(-1, 3)
    write_atomic(folder / "tasks.npy", npy_bytes(index))
    return WorkList(folder)


class WorkList:
    """Tasks by number. `weights`: (tasks,) int64."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tasks.jsonl"
        with (folder / "tasks.npy").open("rb") as file:
            self.index: np.ndarray[Any, np.dtype[np.int64]] = np.load(file, allow_pickle=False)
        self.weights = self.index[:, 2]

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Task]:
        with self.path.open("rb") as file:
            for line in file:
                yield _task(orjson.loads(line))

    def task(self, number: int) -> Task:
        """The task of that number."""
        offset, size, _ = self.index[number].tolist()
        if is_remote(self.path):
            from pipeline.base.storage import read_range

            line = read_range(self.path, offset, offset + size)
        else:
            with open(self.path, "rb") as file:
                file.seek(offset)
                line = file.read(size)
        return _task(json.loads(line))


def _plain(task: Task) -> dict[str, Any]:
    files: dict[InputFile, int] = {}
    spans = [(files.setdefault(span.file, len(files)), span.start, span.stop, span.weight) for span in task.spans]
    return {"corpus": task.corpus, "files": [asdict(file) for file in files], "spans": spans}


def _task(plain: dict[str, Any]) -> Task:
    files = [InputFile(**file) for file in plain["files"]]
    return Task(tuple(Span(files[at], *rest) for at, *rest in plain["spans"]), plain["corpus"])
