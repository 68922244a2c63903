"""A fine-tuned task's folder, opened again: its settings, labels and model, wherever the folder has been moved to."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file
from pipeline.base.run_folder import RunFolder
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import Task, family_class
from pipeline.tasks.formats.files import COMPRESSED, bare_suffix
from pipeline.tasks.identity import METRICS
from pipeline.tasks.pretrained import pretrained_digest

SPLIT = "test"
"""What a file is to a task that is trained already."""
READING = ("batch_size", "max_length", "long_text", "stride", "pooling", "precision", "beams")
"""Settings that may be other ones than in training."""


@dataclass(frozen=True)
class Finished:
    """What the folder says of itself."""

    folder: Path
    settings: FinetuneConfig
    labels: list[str]
    trained_length: int
    """finetune.max_length of the training."""
    facts: Mapping[str, Any]
    """What else its metrics.json tells."""

    @property
    def model(self) -> Path:
        """The Hugging Face folder inside."""
        return self.folder / "model"

    @property
    def run(self) -> RunFolder | None:
        """The run that the folder lies in; None where it was moved out of one."""
        above = reversed(self.folder.absolute().parents)
        runs = (RunFolder(parent.parent) for parent in above if parent.name == "finetune")
        return next((run for run in runs if run.tracking.exists() or run.export.is_dir()), None)

    def open(self, data: Path) -> Task:
        """The task with one split, the file `data`. Raises UserError that names file and line."""
        task = family_class(self.settings.family).open(self.settings, {SPLIT: data}, self.labels)
        if (unlike := task.unlike(self.facts)) is not None:
            told = f"{data} has {unlike}. Give a file like the task's own, or name its texts in finetune.fields."
            raise UserError(told)
        return task

    def digest(self) -> str:
        """sha256 of the model's weights."""
        return pretrained_digest(self.model)


def open_finished(folder: Path, given: FinetuneConfig, keys: Container[str], data: Path) -> Finished:
    """The folder run_dir/finetune/NAME, with finetune.format and finetune.fields of `given`.

    So are those of READING that the user set: `keys` has them as finetune.KEY. A format that the task was trained from
    holds for another file only where that has no suffix that says its own. Raises UserError.
    """
    metrics = recorded(folder)
    if not metrics:
        raise UserError(
            f"evaluate.model: {folder} is no fine-tuned task (no {METRICS} with its settings). Give the folder "
            "run_dir/finetune/NAME that pipeline/finetune.py wrote."
        )
    if not (folder / "model").is_dir():
        raise UserError(f"{folder} has no folder `model`: give evaluate.model a finished fine-tuning.")
    trained = settings_of(metrics, folder)
    chosen = given.format
    if chosen == "auto" and not _says_its_format(data):
        chosen = trained.format
    fields = trained.fields.overridden(given.fields)
    changed = {key: getattr(given, key) for key in READING if f"finetune.{key}" in keys}
    settings = trained.model_copy(update={"format": chosen, "fields": fields, **changed})
    labels = [str(label) for label in metrics.get("labels") or []]
    return Finished(folder, settings, labels, trained.max_length, metrics)


def recorded(folder: Path) -> dict[str, Any]:
    """metrics.json of a fine-tuning, or of several seeds together; {} where none with settings is there."""
    metrics = read_json(folder / METRICS) if (folder / METRICS).is_file() else None
    return metrics if isinstance(metrics, dict) and isinstance(metrics.get("settings"), dict) else {}


def settings_of(metrics: Mapping[str, Any], folder: Path) -> FinetuneConfig:
    """What the task in `folder` was fine-tuned with: of the fields those are set that its `metrics` tell.

    Raises UserError for values that cannot be.
    """
    told = metrics.get("settings", {})
    values = {key.removeprefix("finetune."): value for key, value in told.items() if "finetune." in key}
    known = {key: value for key, value in values.items() if key in FinetuneConfig.model_fields}
    try:
        return FinetuneConfig.model_validate(known)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{folder / METRICS}: settings.finetune.{key} is damaged: {problem['msg']}.") from None


def file_digest(data: Path) -> str:
    """sha256 of the file that is evaluated on. Raises UserError where there is none."""
    if not data.is_file():
        raise UserError(f"evaluate.data: {data} is no file." if data.exists() else f"{data} does not exist.")
    return sha256_file(data)


def plain_name(data: Path) -> str:
    """The file's name without the suffixes of format and compression."""
    return Path(data.stem).stem if data.suffix.lower() in COMPRESSED else data.stem


def _says_its_format(data: Path) -> bool:
    return bare_suffix(data) not in ("", ".txt")
