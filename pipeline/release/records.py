"""What a run's own folder knows about an exported network: evaluations, pairs of texts, fine-tuned tasks, corpus.

A record counts only where its digests say that it is of these weights, this checkpoint or this data: a card never shows
another network's figures. A damaged record is as good as none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import place_of, reading
from pipeline.release.facts import FIRST_WEIGHTS, last_evaluation

PAIRS = "evaluation-pairs.json"
EVALUATION = "evaluation.json"
EVALUATIONS = "evaluations"
MANY = 1000
"""Most metrics.json files that are looked at."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """Everything that was measured; None and empty where nothing was."""

    name: str
    """The network's: "generator" or "discriminator"."""
    evaluated: str
    """On what and when the evaluation was made; "" for never."""
    evaluation: dict[str, float]
    """eval/…"""
    pairs: dict[str, Any]
    """Sets of pairs by name, as evaluation-pairs.json has them, where this network scored them."""
    tasks: dict[str, dict[str, Any]]
    """metrics.json of tasks fine-tuned from these weights, by their folder below finetune/.

    Under EVALUATIONS each has what evaluate.py found of its model on other files, by the file's name.
    """
    random: dict[str, dict[str, Any]]
    """The same for the same shape from random weights."""
    corpus: dict[str, Any] | None
    """data/statistics.json."""
    tokens_seen: int | None
    continued: bool
    """Whether the run started from given weights, which had seen other data before."""


def gather_records(folder: RunFolder, network: Path, name: str, mark: dict[str, Any]) -> Records:
    """The records of one exported network. mark: export.json's digests; network: the folder with its weights."""
    weights = sha256_file(network / "model.safetensors")
    evaluated, evaluation = _evaluation(folder, mark)
    pairs = _read(folder.path / PAIRS)
    same = as_dict(as_dict(pairs.get("networks")).get(name)).get("weights") == weights
    tasks = _tasks(folder.finetune, weights)
    return Records(
        name=name,
        evaluated=evaluated,
        evaluation=evaluation,
        pairs=as_dict(pairs.get("sets")) if same else {},
        tasks={key: value for key, value in tasks.items() if _setting(value, "weights") != "random"},
        random={key: value for key, value in tasks.items() if _setting(value, "weights") == "random"},
        corpus=_corpus(folder, mark),
        tokens_seen=mark.get("tokens_seen"),
        continued=any(key.startswith(FIRST_WEIGHTS) for key in mark),
    )


def _evaluation(folder: RunFolder, mark: dict[str, Any]) -> tuple[str, dict[str, float]]:
    found = _read(folder.path / EVALUATION)
    if found.get("checkpoint_sha256") and found["checkpoint_sha256"] == mark.get("checkpoint_sha256"):
        figures = {key: float(value) for key, value in found.items() if key.startswith("eval/")}
        return f"On {found.get('sequences', 0):,} sequences of the validation split, by `evaluate.py`.", figures
    number = str(mark.get("checkpoint", "")).rpartition("-")[2]
    if not number.isdigit():
        return "", {}
    step, figures = last_evaluation(folder.metrics, int(number))
    return ("" if step is None else f"On the run's validation split, at step {step:,}."), figures


def _tasks(root: Path, weights: str) -> dict[str, dict[str, Any]]:
    """metrics.json of tasks that started from these weights; of several seeds the joint one, not each."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(root.rglob("metrics.json"), key=lambda path: (len(path.parts), path))[:MANY]:
        place = str(path.parent.relative_to(root))
        parents = {str(parent) for parent in Path(place).parents}
        if any(part.startswith(".") for part in Path(place).parts) or parents & found.keys():
            continue
        metrics = _read(path)
        if as_dict(metrics.get("inputs")).get("finetune.export") == weights:
            found[place] = metrics | {EVALUATIONS: _evaluations(path.parent)}
    return dict(sorted(found.items()))


def _evaluations(task: Path) -> dict[str, dict[str, Any]]:
    """What evaluate.py found of the model, or of the models of all seeds, that lie in the folder now; by the file."""
    read = {path: _read(path) for path in sorted(task.glob("evaluation-*.json"))}
    wanted = {path: as_dict(one.get("models_sha256")) or {"": one.get("model_sha256")} for path, one in read.items()}
    folders = {name for digests in wanted.values() for name in digests}
    there = {name: _digest(task / name / "model") for name in folders}
    return {
        path.stem.removeprefix("evaluation-"): read[path]
        for path, digests in wanted.items()
        if all(digest and digest == there[name] for name, digest in digests.items())
    }


def _digest(model: Path) -> str:
    """sha256 of a fine-tuned model's weights, as the evaluation has it."""
    return " ".join(sha256_file(file) for file in sorted(model.glob("*.safetensors")))


def _corpus(folder: RunFolder, mark: dict[str, Any]) -> dict[str, Any] | None:
    """Statistics of the data that the network was trained on: this run's, or those of the run that data.path names."""
    for path in (None, _data_path(folder.config)):
        try:
            place = RunFolder(folder.path, cast(Path, place_of(path))) if path else folder
            with reading(place.data):
                if place.manifest.is_file() and sha256_file(place.manifest) == mark.get("data_manifest_sha256"):
                    return _read(place.statistics) or None
        except UserError:  # a store that is away
            continue
    return None


def _data_path(config: Path) -> str | None:
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
        path = values["data"]["path"]
        return path if isinstance(path, str) else None
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def _setting(metrics: dict[str, Any], key: str) -> Any:
    return as_dict(metrics.get("settings")).get(f"finetune.{key}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return as_dict(read_json(path))
    except UserError:
        return {}


def as_dict(value: Any) -> dict[str, Any]:
    """The value, or {} where a file has something else in its place."""
    return value if isinstance(value, dict) else {}
