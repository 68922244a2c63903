"""What fine-tuning leaves: the model's folder, predictions, metrics.json; and the table that a person reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import family_class
from pipeline.tasks.loop import FineTuning, Outcome
from pipeline.tasks.pretrained import Pretrained


def write_results(
    aside: Path, tuning: FineTuning, pretrained: Pretrained, outcome: Outcome, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Model folder and predictions of dev and test; returns the content of metrics.json. Raises Preempted."""
    settings, task = tuning.settings, tuning.task
    task.save(tuning.model, pretrained.tokenizer, aside / "model")
    reported = [split for split in task.splits if split != "train"]
    metrics: dict[str, Any] = {}
    for split in reported:
        decisions = tuning.predict(split, stop=stop)
        figures = task.metrics(split, decisions)
        metrics |= named(settings, {f"{split}/{name}": value for name, value in figures.items()})
        baseline = task.baseline(split)
        metrics |= named(settings, {f"{split}/trivial_{name}": value for name, value in baseline.items()})
        write_predictions(aside / f"predictions-{split}.jsonl", task.predictions(split, decisions))
    facts = {
        "name": settings.name,
        "family": settings.family,
        "reported_split": reported[-1],
        "labels": list(task.head_config().get("id2label", {}).values()),
        "base": str(pretrained.path),
        "weights": pretrained.weights,
        "examples": {split: len(task.examples[split]) for split in task.splits},
        "rows": {split: len(part.rows) for split, part in tuning.encoded.items()},
        "selection": task.selection,
        "best_epoch": outcome.best_epoch,
        "updates": outcome.updates,
        "cut": {split: part.cut for split, part in tuning.encoded.items()},
        "history": outcome.history,
    }
    headline = {name: value for name, value in task.headline_first(figures).items() if name != "loss"}
    return named(settings, headline) | metrics | facts | task.facts()


def write_predictions(path: Path, rows: list[dict[str, Any]]) -> None:
    """A JSON object a line."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def named(settings: FinetuneConfig, figures: dict[str, float]) -> dict[str, float]:
    """Figures under finetune/NAME/."""
    return {f"finetune/{settings.name}/{name}": value for name, value in figures.items()}


def summary(metrics: dict[str, Any]) -> str:
    """Figures of a finished task beside those of the trivial answer."""
    prefix = f"finetune/{metrics['name']}/"
    labels = f" ({len(metrics['labels'])} labels)" if len(metrics["labels"]) > 1 else ""
    lines = [f"{prefix.rstrip('/')}: best epoch {metrics['best_epoch']} on dev{labels}"]
    words = any("/bag_of_words_" in key for key in metrics)
    lines.append(f"  {'split':<6}{'figure':<14}{'reached':>9}  trivial answer{'  bag of words' if words else ''}")
    for split in ("dev", "test"):
        for name in family_class(metrics["family"]).shown(metrics["settings"].get("finetune.select")):
            if (key := f"{prefix}{split}/{name}") in metrics:
                trivial = metrics.get(f"{prefix}{split}/trivial_{name}")
                beside = "" if trivial is None else f"{trivial:.4f}"
                if (counted := metrics.get(f"{prefix}{split}/bag_of_words_{name}")) is not None:
                    beside = f"{beside:<16}{counted:.4f}"
                lines.append(f"  {split:<6}{name:<14}{metrics[key]:>9.4f}  {beside}")
    return "\n".join(lines)


def advice(target: Path, pipeline_name: str | None) -> str:
    """Where the results lie and how to use them."""
    if pipeline_name is None:
        return f"written: {target}"
    return (
        f'written: {target}\ntry it:  python -c "from transformers import pipeline; '
        f"print(pipeline('{pipeline_name}', '{target / 'model'}'))\""
    )
