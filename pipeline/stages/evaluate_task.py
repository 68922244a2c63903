"""Stage evaluate on a fine-tuned task: its model, or the models of all its seeds, on another file.

The figures are those of the task's family; they go into evaluation-FILE.json beside the model and into the model card
of the export that the task was fine-tuned from. The same models and file again: only the table. Labels and settings
come from the task's own folder, which may have been moved. One model is loaded at a time.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, write_json
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id, start_run
from pipeline.release.refresh import refresh_cards
from pipeline.stages.evaluate_model import Reading, result_file
from pipeline.stages.evaluate_seeds import best_seed, joined, seed_folders
from pipeline.tasks.finished import SPLIT, file_digest, open_finished
from pipeline.tasks.identity import METRICS
from pipeline.tasks.job import prepare_device


@dataclass(frozen=True)
class _Chosen:
    """What evaluate.model and evaluate.data name."""

    folder: Path
    data: Path
    readings: list[Reading]
    """One, or one a seed."""
    seeds: dict[int, Path]
    """{} where the folder is one fine-tuning."""
    best: int | None
    """The best seed on dev."""

    @property
    def result(self) -> Path:
        """The file that has the figures of the whole folder."""
        first = self.readings[0]
        return result_file(self.folder, self.data, first.facts["data_sha256"]) if self.seeds else first.result

    @property
    def run(self) -> RunFolder | None:
        """The run that the folder lies in."""
        return self.readings[0].finished.run

    def joint(self, evaluations: list[dict[str, Any]]) -> dict[str, Any]:
        """The evaluation of the whole folder."""
        if self.best is None:
            return evaluations[0]
        return joined(self.seeds, self.best, dict(zip(self.seeds, evaluations, strict=True)))


def run(config: RunConfig) -> None:
    """Predicts, prints the table, writes figures and predictions. Raises UserError."""
    chosen = _choose(config)
    folder = chosen.run or RunFolder(Path(config.run_dir))
    setup_logging(None)
    done = [reading.done() for reading in chosen.readings]
    device = prepare_device(config)
    evaluations = [
        found or reading.make(device, _beginning(folder, reading, device))
        for reading, found in zip(chosen.readings, done, strict=True)
    ]
    evaluation = chosen.joint(evaluations)
    if all(done) and _is_written(chosen.result, evaluation):
        get_logger().info(f"evaluated already: {chosen.result}\n{_table(chosen, evaluation)}")
    else:
        if chosen.seeds:
            write_json(chosen.result, evaluation)
        _track(config, folder, chosen, evaluation)
        get_logger().info(f"{_table(chosen, evaluation)}\nwritten: {chosen.result}")
    if chosen.run is not None:
        refresh_cards(chosen.run)


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Opens models and file; what would be predicted."""
    chosen = _choose(config)
    left = [reading for reading in chosen.readings if reading.done() is None]
    first = chosen.readings[0].finished
    task = None
    for reading in left:
        task = reading.open(torch.device("cpu")).task
    task = task or first.open(chosen.data)
    seeds = f", seeds {', '.join(map(str, chosen.seeds))}" if chosen.seeds else ""
    return [
        ("model", f"{first.model if not seeds else chosen.folder} ({first.settings.family}{seeds})"),
        ("file", f"{chosen.data}, {len(task.examples[SPLIT]):,} examples"),
        *[row for row in task.describe() if row[0] != SPLIT],
        ("to be read", f"by {len(left)} of {len(chosen.readings)} models"),
        ("result", str(chosen.result)),
    ]


def _choose(config: RunConfig) -> _Chosen:
    model, data = config.evaluate.model, config.evaluate.data
    if not model or not data:
        missing, given = ("evaluate.model", "evaluate.data") if data else ("evaluate.data", "evaluate.model")
        raise UserError(f"{given} needs {missing} too: a fine-tuned task's folder, and a file like the task's own.")
    path, folder = Path(data), Path(model)
    if not path.exists() and config.finetune.data_folder and not path.is_absolute():
        path = Path(config.finetune.data_folder) / path
    if folder.name == "model" and not (folder / METRICS).is_file():
        folder = folder.parent
    seeds = seed_folders(folder)
    models = [open_finished(one, config.finetune, config.given, path) for one in seeds.values() or [folder]]
    best = best_seed(seeds) if seeds else None
    digest = file_digest(path)
    return _Chosen(folder, path, [Reading.of(one, path, digest) for one in models], seeds, best)


def _beginning(folder: RunFolder, reading: Reading, device: torch.device) -> Callable[[], None]:
    """What is done once a reading's inputs are found good: nothing is written before."""

    def begin() -> None:
        setup_logging(folder)
        get_logger().info(f"{reading.finished.folder} on {reading.data}, on {device.type}")

    return begin


def _is_written(result: Path, evaluation: dict[str, Any]) -> bool:
    try:
        return json.dumps(read_json(result)) == json.dumps(evaluation)  # as text: no figure that is NaN equals itself
    except UserError:
        return False


def _table(chosen: _Chosen, evaluation: dict[str, Any]) -> str:
    """A line a figure; of several seeds the median, the spread, and the figure of the seed that is best on dev."""
    seeds = evaluation.get("seeds")
    told = f", {len(seeds)} seeds, of which {evaluation['best_seed']} is the best on dev" if seeds else ""
    lines = [f"{chosen.folder} on {chosen.data}, {evaluation['examples']:,} examples{told}"]
    columns = ("median", "std", "lowest", "highest", "best on dev") if seeds else ("reached",)
    heads = "".join(f"{name:>{_width(name)}}" for name in columns)
    lines.append(f"  {'figure':<24}{heads}  {evaluation['trivial_answer'] or 'no trivial answer'}")
    for name, value in evaluation["metrics"].items():
        spread = evaluation["spread"][name] if seeds else {}
        values = [value, *(spread[key] for key in ("std", "min", "max", "best_of_dev") if spread)]
        shown = "".join(f"{number:>{_width(head)}.4f}" for number, head in zip(values, columns, strict=True))
        beside = f"{evaluation['trivial'][name]:.4f}" if name in evaluation["trivial"] else ""
        lines.append(f"  {name:<24}{shown}  {beside}")
    return "\n".join(lines)


def _width(head: str) -> int:
    return max(9, len(head) + 2)


def _track(config: RunConfig, folder: RunFolder, chosen: _Chosen, evaluation: dict[str, Any]) -> None:
    """Figures as evaluate/NAME/FILE/METRIC in an MLflow run of `folder`, which is one for each folder below finetune/.

    Of several seeds that is the median, with /std, /min, /max and /best_of_dev beside it.
    """
    name = evaluation["name"]
    place = str(chosen.folder.absolute().relative_to(folder.finetune.absolute())) if chosen.run is not None else name
    tags = {"data_sha256": evaluation["data_sha256"]}
    tags |= {f"{seed}_sha256": digest for seed, digest in evaluation.get("models_sha256", {}).items()}
    tags |= {key: evaluation[key] for key in ("model_sha256",) if key in evaluation}
    trained = read_run_id(folder, f"finetune-{place}") if chosen.run is not None else None
    tags |= {"finetune_run_id": trained} if trained else {}
    figures = dict(evaluation["metrics"])
    for metric, spread in evaluation.get("spread", {}).items():
        figures |= {f"{metric}/{key}": value for key, value in spread.items()}
    file = chosen.result.stem.removeprefix("evaluation-")
    with start_run(config, f"evaluate-{place}", folder, tags) as tracker:
        tracker.metrics(0, {f"evaluate/{name}/{file}/{k}": v for k, v in figures.items() if math.isfinite(v)})
        tracker.artifact(chosen.result)
