"""The stage's scratch folder, data/.work: the work list, what each task has made, and a mark for each finished task.

A killed run goes on from these files; nothing that matters is held anywhere else. A pass is a folder: NNNNNN/ holds
what a task has made, done/NNNNNN.json is written after that, with the task's report and the digests of its files.
job.json says of which input and config it all is, and another one's is never taken up. Removed once the manifest is
written.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import orjson

from pipeline.base.corpus_sections import CorpusConfig
from pipeline.base.errors import UserError
from pipeline.base.files import complete_folder, is_remote, read_json, sha256_file, write_json
from pipeline.base.sections import TokenizerConfig
from pipeline.base.storage import place_of
from pipeline.corpus.worklist import WorkList

FORMAT = 6
"""Raised whenever the code gives other results for the same input."""
REQUESTS = 32
"""Marks of a store that are asked for at a time."""


@dataclass(frozen=True)
class TaskConfig:
    """The part of a run's config that tasks read; that alone, so that workers do not load torch for the rest."""

    seed: int
    corpus: CorpusConfig
    tokenizer: TokenizerConfig

    @classmethod
    def of(cls, values: dict[str, Any]) -> "TaskConfig":
        """From the values of a run's config."""
        corpus, tokenizer = CorpusConfig(**values["corpus"]), TokenizerConfig(**values["tokenizer"])
        return cls(int(values["seed"]), corpus, tokenizer)


@dataclass(frozen=True)
class Pass:
    """One pass over the tasks, or over the shards of a split; home: the scratch folder; job: its id."""

    home: Path
    name: str
    job: str

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.home / self.name

    def folder(self, number: int) -> Path:
        """What the task has made."""
        return self.home / f"{self.name}/{number:06d}"

    def mark(self, number: int) -> Path:
        """Written last: the task is finished."""
        return self.home / f"{self.name}/done/{number:06d}.json"

    def finished(self) -> set[int]:
        """Numbers of the finished tasks, by one listing."""
        folder = self.path / "done"
        if not folder.is_dir():
            return set()
        return {int(entry.name[:-5]) for entry in folder.iterdir() if entry.name[:-5].isdigit()}

    def report(self, number: int) -> dict[str, Any]:
        """What the finished task has reported. UserError where its mark cannot be read."""
        mark = self.mark(number)
        try:
            return dict(orjson.loads(mark.read_bytes())["report"])
        except (OSError, ValueError):
            return dict(read_json(mark)["report"])

    def reports(self, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
        """The reports of finished tasks, in the order of their numbers; in a store many are asked for at a time."""
        if not is_remote(self.home):
            marks = f"{self.path}/done"  # a Path each would take as long as its reading
            for number in numbers:
                try:
                    with open(f"{marks}/{number:06d}.json", "rb") as file:
                        yield dict(orjson.loads(file.read())["report"])
                except (OSError, ValueError):
                    yield self.report(number)
            return
        asked: deque[Future[dict[str, Any]]] = deque()
        with ThreadPoolExecutor(REQUESTS) as pool:
            for number in numbers:
                asked.append(pool.submit(self.report, number))
                if len(asked) == 2 * REQUESTS:
                    yield asked.popleft().result()
            while asked:
                yield asked.popleft().result()

    @contextmanager
    def making(self, number: int) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yields a folder for the task's files and a dictionary for its report; on a clean exit both are kept."""
        report: dict[str, Any] = {}
        files: dict[str, list[Any]] = {}
        check_there(self.home, self.job)
        with nothing_missing(self.home), complete_folder(self.folder(number)) as aside:
            yield aside, report
            for file in sorted(aside.iterdir()):
                files[file.name] = [file.stat().st_size, sha256_file(file)]
            check_there(self.home, self.job)
        self.finish(number, report, files)

    def finish(self, number: int, report: dict[str, Any], files: dict[str, list[Any]] | None = None) -> None:
        """Marks the task as finished."""
        check_there(self.home, self.job)
        write_json(self.mark(number), {"report": report, "files": files or {}}, indent=None)


class Work:
    """The scratch folder of one run. `config` is of the run which made it, `revision` that of the data set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        job = read_json(path / "job.json")
        self.id = str(job["id"])
        self.revision = int(job["revision"])
        self.config = TaskConfig.of(job["config"])
        self.tasks = WorkList(path)

    def check(self) -> None:
        """UserError where the folder is gone, or another run's has taken its place; before anything is written."""
        check_there(self.path, self.id)

    @property
    def read(self) -> Pass:
        """Records read, checked and cleaned."""
        return Pass(self.path, "read", self.id)

    @property
    def duplicates(self) -> Path:
        """What is dropped as a copy."""
        return self.path / "duplicates"

    @property
    def contamination(self) -> Path:
        """Index of the evaluation files' texts."""
        return self.path / "contamination.npz"

    def trained(self, settings: str) -> Path:
        """The tokenizer trained under the settings with that digest."""
        return self.path / f"trained-{settings}.model"

    def tokens(self, sha256: str) -> Pass:
        """Documents as tokens under that tokenizer; `tokenizer.model` beside is the tokenizer."""
        return Pass(self.path, f"tokens-{sha256[:16]}", self.id)

    def shards(self, split: str, plan: str) -> Pass:
        """Marks of the split's shards under the plan with that digest; plan.json and pieces.npy beside."""
        return Pass(self.path, f"shards-{split}-{plan}", self.id)


@lru_cache(maxsize=4)
def opened(place: str, job: str) -> Work:
    """The scratch folder at a place, as a worker sees it; `job` is its id, so that another run's is read anew."""
    return Work(cast(Path, place_of(place)))


def digest_of(value: object) -> str:
    """Sixteen hexadecimal digits of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def nothing_missing(home: Path) -> Iterator[None]:
    """UserError where a file of the scratch folder, which a finished task has left there, is not there any more."""
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None or str(home) not in str(error.filename):
            raise
        check_there(home)
        raise UserError(
            f"{error.filename} is missing: somebody has removed files of a run that is not finished. "
            "Start the same command again with --fresh: the work begins anew."
        ) from error


def check_there(home: Path, job: str | None = None) -> None:
    """UserError where the scratch folder is gone under the run: else its path would be made anew, on another disk.

    job: the run's id; UserError where another run has begun anew there.
    """
    if job is not None and (home / "job.json").exists() and read_json(home / "job.json")["id"] != job:
        raise UserError(f"{home} is another run's now: the work was begun anew there. Nothing of this one is kept.")
    if not (home / "job.json").exists():
        raise UserError(
            f"{home} is gone: its mount was lost, or somebody removed it. Bring it back and start the same command "
            "again, which goes on from what is complete; without it the work begins anew."
        )
