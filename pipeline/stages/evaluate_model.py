"""One fine-tuned model on a file: evaluation-FILE.json (figures, digests) and evaluation-FILE.jsonl (predictions).

Both lie beside the model. The same model and file again: nothing to do. Price: the file is read anew for each model.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import UserError
from pipeline.base.files import read_json, write_json
from pipeline.base.progress import Progress
from pipeline.tasks.families.base import Task
from pipeline.tasks.finished import READING, SPLIT, Finished, plain_name
from pipeline.tasks.loop import FineTuning
from pipeline.tasks.pretrained import check_positions
from pipeline.tasks.results import write_predictions

_OWN_ANSWERS = {"classification": "always the file's commonest label", "regression": "always the file's mean score"}
"""Trivial answers of families that would take them from the training file, which is not at hand."""


@dataclass(frozen=True)
class Reading:
    """A finished fine-tuning and the file that it reads."""

    finished: Finished
    data: Path
    facts: dict[str, Any]
    """What the figures are of: they are the same whenever this is."""
    result: Path

    @classmethod
    def of(cls, finished: Finished, data: Path, digest: str) -> "Reading":
        """digest: file_digest(data)."""
        settings = finished.settings
        read: dict[str, Any] = {
            "format": settings.format,
            "fields": settings.fields.model_dump(mode="json", exclude_none=True),
        }
        read |= {key: getattr(settings, key) for key in READING}
        facts = {
            "name": settings.name,
            "family": settings.family,
            "data_sha256": digest,
            "model_sha256": finished.digest(),
            "read": read,
        }
        return cls(finished, data, facts, result_file(finished.folder, data, digest))

    def done(self) -> dict[str, Any] | None:
        """The evaluation, where it has been made."""
        try:
            done = read_json(self.result)
        except UserError:
            return None
        whole = isinstance(done, dict) and done.items() >= self.facts.items()
        return done if whole and self.result.with_suffix(".jsonl").is_file() else None

    def open(self, device: torch.device) -> FineTuning:
        """Model and file, checked against each other. Raises UserError."""
        finished = self.finished
        task = finished.open(self.data)
        model, tokenizer = task.reload(finished.model, device)
        if finished.settings.max_length > finished.trained_length:
            check_positions(finished.model, model, finished.settings.max_length)
        return FineTuning(model, task, {SPLIT: task.encode(SPLIT, tokenizer)}, tokenizer.pad_token_id)

    def make(self, device: torch.device, begin: Callable[[], None]) -> dict[str, Any]:
        """Loads, predicts, writes. begin: called once all inputs are found good. Raises UserError before that."""
        tuning = self.open(device)
        begin()
        task, encoded = tuning.task, tuning.encoded[SPLIT]
        with Progress(len(encoded.rows), "rows", f"predicting by {self.finished.folder.name}") as progress:
            decisions = tuning.predict(SPLIT, advance=progress.advance)
        evaluation = self.facts | _figures(task, decisions) | {"cut": encoded.cut, **task.facts()}
        write_predictions(self.result.with_suffix(".jsonl"), task.predictions(SPLIT, decisions))
        write_json(self.result, evaluation)
        return evaluation


def result_file(folder: Path, data: Path, digest: str) -> Path:
    """evaluation-FILE.json, or with the file's digest where another file of that name was evaluated before."""
    path = folder / f"evaluation-{plain_name(data)}.json"
    try:
        other = read_json(path).get("data_sha256") != digest
    except (UserError, AttributeError):
        return path
    return path.with_stem(f"{path.stem}-{digest[:8]}") if other else path


def _figures(task: Task, decisions: list[Any]) -> dict[str, Any]:
    """metrics (those to show first) and trivial: the family's figures and those of the answer that learns nothing."""
    trivial, what = task.baseline(SPLIT), (type(task).baseline.__doc__ or "").split("\n")[0].strip()
    if not trivial and task.settings.family in _OWN_ANSWERS:
        stand_in = copy.copy(task)
        stand_in.examples = task.examples | {"train": task.examples[SPLIT]}
        trivial, what = stand_in.baseline(SPLIT), _OWN_ANSWERS[task.settings.family]
    return {
        "examples": len(task.examples[SPLIT]),
        "metrics": task.headline_first(task.metrics(SPLIT, decisions)),
        "trivial": trivial,
        "trivial_answer": what if trivial else None,
    }
