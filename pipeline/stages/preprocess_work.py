"""The stage's scratch folder, data/.work/KEY: what tasks have finished, so that a killed run goes on from there.

KEY is a digest of the input files and of every setting that the tasks' results depend on: results of another input or
config are never taken up. Removed once the manifest is written.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.corpus_sections import CorpusConfig
from pipeline.base.files import told_plainly
from pipeline.base.run_folder import RunFolder
from pipeline.corpus.files import InputFile

FORMAT = 2
"""Raised whenever the code gives other results for the same input."""


@dataclass(frozen=True)
class WorkFolder:
    """Names inside the scratch folder; `path` is absolute, since workers run in folders of their own."""

    path: Path

    def survey(self, task: int) -> Path:
        """Report of a task's first reading; beside it .bad and .sample."""
        return self.path / "survey" / f"{task:06d}.json"

    def bad(self, task: int) -> Path:
        """Bad records of a task."""
        return self.path / "survey" / f"{task:06d}.bad"

    def sample(self, task: int) -> Path:
        """A task's part of the tokenizer's sample."""
        return self.path / "survey" / f"{task:06d}.sample"

    def trained(self, settings: str) -> Path:
        """The tokenizer trained under the settings with that digest."""
        return self.path / f"trained-{settings}.model"

    def tokenizer(self, sha256: str) -> Path:
        """The tokenizer that tasks read."""
        return self.path / f"tokens-{sha256[:16]}" / "tokenizer.model"

    def shards(self, split: str) -> Path:
        """The split's shards until all are there."""
        return self.path / "shards" / split

    def segment(self, sha256: str, task: int) -> Path:
        """Folder of a task's tokens under that tokenizer."""
        return self.path / f"tokens-{sha256[:16]}" / f"{task:06d}"


def open_work(
    folder: RunFolder, files: Sequence[InputFile], corpus: CorpusConfig, sample: tuple[int, int]
) -> WorkFolder:
    """The scratch folder of this input, config and sample (seed, bytes); those of others are removed."""
    root = folder.data.absolute() / ".work"
    settings = corpus.model_dump(mode="json", exclude={"paths", "max_bad_fraction"})
    inputs = [(file.place, file.name, file.size, file.changed) for file in files]
    key = digest_of([FORMAT, inputs, settings, sample])
    work = WorkFolder(root / key)
    with told_plainly(root):
        for other in root.glob("*"):
            if other != work.path:
                shutil.rmtree(other, ignore_errors=True)
        work.survey(0).parent.mkdir(parents=True, exist_ok=True)
    return work


def remove_work(folder: RunFolder) -> None:
    """Removes the scratch folder, and data/ where nothing else is in it."""
    shutil.rmtree(folder.data / ".work", ignore_errors=True)


def digest_of(value: object) -> str:
    """Sixteen hexadecimal digits of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
