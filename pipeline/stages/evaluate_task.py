"""Stage evaluate on a fine-tuned task: its model on another file, with the metrics of its family.

Beside the model lie evaluation-FILE.json (figures, digests) and evaluation-FILE.jsonl (predictions). The same model and
file again: only the table. Labels and settings come from the task's own folder, which may have been moved.
"""

import copy
import math
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, write_json
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.progress import Progress
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id, start_run
from pipeline.tasks.families.base import Task, family_class
from pipeline.tasks.finished import READING, SPLIT, Finished, file_digest, open_finished, plain_name
from pipeline.tasks.job import prepare_device
from pipeline.tasks.loop import FineTuning
from pipeline.tasks.pretrained import check_positions
from pipeline.tasks.results import write_predictions

_OWN_ANSWERS = {"classification": "always the file's commonest label", "regression": "always the file's mean score"}
"""Trivial answers of families that would take them from the training file, which is not at hand."""


def run(config: RunConfig) -> None:
    """Predicts, prints the table, writes figures and predictions. Raises UserError."""
    finished, data = _find_inputs(config)
    facts = _facts(finished, data)
    result = _result(finished, data, facts)
    if (done := _done(result, facts)) is not None:
        setup_logging(None)
        return get_logger().info(f"evaluated already: {result}\n{_table(finished, data, done)}")
    task = finished.open(data)
    device = prepare_device(config)
    model, tokenizer = task.reload(finished.model, device)
    if finished.settings.max_length > finished.trained_length:
        check_positions(finished.model, model, finished.settings.max_length)
    encoded = task.encode(SPLIT, tokenizer)
    folder = finished.run or RunFolder(Path(config.run_dir))
    setup_logging(folder)
    get_logger().info(f"{finished.folder} on {data}, {len(task.examples[SPLIT]):,} examples, on {device.type}")
    tuning = FineTuning(model, task, {SPLIT: encoded}, tokenizer.pad_token_id)
    with Progress(len(encoded.rows), "rows", "predicting") as progress:
        decisions = tuning.predict(SPLIT, advance=progress.advance)
    evaluation = facts | _figures(task, decisions) | {"cut": encoded.cut, **task.facts()}
    write_predictions(result.with_suffix(".jsonl"), task.predictions(SPLIT, decisions))
    write_json(result, evaluation)
    _track(config, folder, finished, result, evaluation)
    get_logger().info(f"{_table(finished, data, evaluation)}\nwritten: {result}")


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Checks folder and file; what would be predicted."""
    finished, data = _find_inputs(config)
    facts = _facts(finished, data)
    result = _result(finished, data, facts)
    task = finished.open(data)
    done = _done(result, facts) is not None
    return [
        ("model", f"{finished.model} ({finished.settings.family})"),
        ("file", f"{data}, {len(task.examples[SPLIT]):,} examples"),
        *[row for row in task.describe() if row[0] != SPLIT],
        ("result", f"{result} ({'there already' if done else 'to be made'})"),
    ]


def _find_inputs(config: RunConfig) -> tuple[Finished, Path]:
    model, data = config.evaluate.model, config.evaluate.data
    if not model or not data:
        missing, given = ("evaluate.model", "evaluate.data") if data else ("evaluate.data", "evaluate.model")
        raise UserError(f"{given} needs {missing} too: a fine-tuned task's folder, and a file like the task's own.")
    path = Path(data)
    if not path.exists() and config.finetune.data_folder and not path.is_absolute():
        path = Path(config.finetune.data_folder) / path
    return open_finished(Path(model), config.finetune, config.given, path), path


def _facts(finished: Finished, data: Path) -> dict[str, Any]:
    """What the figures are of: they are the same whenever this is."""
    settings = finished.settings
    read: dict[str, Any] = {"format": settings.format, "fields": settings.fields.model_dump(exclude_none=True)}
    read |= {key: getattr(settings, key) for key in READING}
    return {
        "name": settings.name,
        "family": settings.family,
        "data_sha256": file_digest(data),
        "model_sha256": finished.digest(),
        "read": read,
    }


def _result(finished: Finished, data: Path, facts: dict[str, Any]) -> Path:
    """evaluation-FILE.json, or with the file's digest where another file of that name was evaluated before."""
    path = finished.folder / f"evaluation-{plain_name(data)}.json"
    try:
        other = read_json(path).get("data_sha256") != facts["data_sha256"]
    except (UserError, AttributeError):
        return path
    return path.with_stem(f"{path.stem}-{facts['data_sha256'][:8]}") if other else path


def _done(result: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    try:
        done = read_json(result)
    except UserError:
        return None
    whole = isinstance(done, dict) and done.items() >= facts.items() and result.with_suffix(".jsonl").is_file()
    return done if whole else None


def _figures(task: Task, decisions: list[Any]) -> dict[str, Any]:
    """metrics and trivial: the family's figures and those of the answer that learns nothing."""
    trivial, what = task.baseline(SPLIT), (type(task).baseline.__doc__ or "").split("\n")[0].strip()
    if not trivial and task.settings.family in _OWN_ANSWERS:
        stand_in = copy.copy(task)
        stand_in.examples = task.examples | {"train": task.examples[SPLIT]}
        trivial, what = stand_in.baseline(SPLIT), _OWN_ANSWERS[task.settings.family]
    return {
        "examples": len(task.examples[SPLIT]),
        "metrics": task.metrics(SPLIT, decisions),
        "trivial": trivial,
        "trivial_answer": what if trivial else None,
    }


def _table(finished: Finished, data: Path, evaluation: dict[str, Any]) -> str:
    metrics, trivial = evaluation["metrics"], evaluation["trivial"]
    names = [name for name in family_class(finished.settings.family).headline if name in metrics]
    names += [name for name in metrics if name not in names]
    lines = [f"{finished.folder} on {data}, {evaluation['examples']:,} examples"]
    lines.append(f"  {'figure':<24}{'reached':>9}  {evaluation['trivial_answer'] or 'no trivial answer'}")
    for name in names:
        beside = "" if name not in trivial else f"{trivial[name]:.4f}"
        lines.append(f"  {name:<24}{metrics[name]:>9.4f}  {beside}")
    return "\n".join(lines)


def _track(config: RunConfig, folder: RunFolder, finished: Finished, result: Path, evaluation: dict[str, Any]) -> None:
    """Figures as evaluate/NAME/FILE/METRIC in an MLflow run of `folder`."""
    tags = {key: str(evaluation[key]) for key in ("data_sha256", "model_sha256")}
    trained = read_run_id(folder, f"finetune-{finished.settings.name}")
    tags |= {"finetune_run_id": trained} if trained else {}
    file = result.stem.removeprefix("evaluation-")
    figures = {f"evaluate/{finished.settings.name}/{file}/{k}": v for k, v in evaluation["metrics"].items()}
    with start_run(config, f"evaluate-{finished.settings.name}", folder, tags) as tracker:
        tracker.metrics(0, {key: value for key, value in figures.items() if math.isfinite(value)})
        tracker.artifact(result)
