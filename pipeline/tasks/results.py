"""What fine-tuning leaves: the model's folder, predictions, metrics.json; and the table that a person reads."""

import json
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.loop import FineTuning, Outcome
from pipeline.tasks.pretrained import Pretrained, save_model


def write_results(aside: Path, tuning: FineTuning, pretrained: Pretrained, outcome: Outcome) -> dict[str, Any]:
    """Model folder and predictions of dev and test; returns the content of metrics.json."""
    settings, task = tuning.settings, tuning.task
    save_model(tuning.model, pretrained.tokenizer, aside / "model", settings.max_length)
    reported = [split for split in task.splits if split != "train"]
    metrics: dict[str, Any] = {}
    for split in reported:
        logits = tuning.predict(split)
        figures = task.metrics(split, logits)
        metrics |= named(settings, {f"{split}/{name}": value for name, value in figures.items()})
        baseline = task.baseline(split)
        metrics |= named(settings, {f"{split}/majority_{name}": value for name, value in baseline.items()})
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in task.predictions(split, logits))
        write_atomic(aside / f"predictions-{split}.jsonl", "".join(lines))
    facts = {
        "name": settings.name,
        "family": settings.family,
        "reported_split": reported[-1],
        "labels": list(task.head_config()["id2label"].values()),
        "base": str(pretrained.path),
        "best_epoch": outcome.best_epoch,
        "cut": {split: part.cut for split, part in tuning.encoded.items()},
        "history": outcome.history,
    }
    headline = {name: value for name, value in figures.items() if name != "loss"}
    return named(settings, headline) | metrics | facts


def named(settings: FinetuneConfig, figures: dict[str, float]) -> dict[str, float]:
    """Figures under finetune/NAME/."""
    return {f"finetune/{settings.name}/{name}": value for name, value in figures.items()}


def summary(metrics: dict[str, Any]) -> str:
    """Figures of a finished task beside those of always answering the commonest label."""
    prefix = f"finetune/{metrics['name']}/"
    lines = [f"{prefix.rstrip('/')}: best epoch {metrics['best_epoch']} on dev ({len(metrics['labels'])} labels)"]
    lines.append(f"  {'split':<6}{'figure':<12}{'reached':>9}  always the commonest label")
    for split in ("dev", "test"):
        for name in ("accuracy", "f1", "matthews"):
            if (key := f"{prefix}{split}/{name}") in metrics:
                trivial = metrics[f"{prefix}{split}/majority_{name}"]
                lines.append(f"  {split:<6}{name:<12}{metrics[key]:>9.4f}  {trivial:.4f}")
    return "\n".join(lines)


def advice(target: Path) -> str:
    """Where the results lie and how to use them."""
    return (
        f'written: {target}\ntry it:  python -c "from transformers import pipeline; '
        f"print(pipeline('text-classification', '{target / 'model'}')('a text'))\""
    )
