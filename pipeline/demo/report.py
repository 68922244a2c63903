"""What the demo says of its results: the figures beside what costs nothing, what they mean, and what to try next.

Promise: every figure is read from the files that the stages wrote. Price: none is computed here, so a figure that a
stage did not write is shown as missing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.files import read_json
from pipeline.demo.stages import Plan, next_commands

Figures = Mapping[str, float]

_ROWS: list[tuple[str, str, str | float, str]] = [
    # figure, its name, what a guess without learning gets, what is expected of this demo
    ("eval/generator/accuracy", "generator accuracy", "eval/generator/unigram_accuracy", ">= 0.35"),
    ("eval/discriminator/auc", "discriminator AUC", "eval/discriminator/frequency_auc", ">= 0.57"),
    ("eval/discriminator/loss_over_entropy", "discriminator loss / entropy", 1.0, "<= 0.99"),
]

MEANING = """\
  generator accuracy    how often the generator's first guess for a hidden piece is right; beside it: always guessing
                        the most frequent piece.
  discriminator AUC     how often the discriminator finds a replaced piece more suspicious than one that is not (0.50 is
                        a coin); beside it: calling rare pieces suspicious, with no look at the text.
  loss / entropy        the discriminator's loss over that of someone who knows only how many pieces are replaced: 1.00
                        has learned nothing; lower is better.
In minutes a discriminator only begins to learn: it has something to learn once the generator's fakes make sense. The
figures show that everything works, not what the method can do; a real run reads a thousand times as much text and goes
on for days."""


def report(plan: Plan) -> str:
    """The closing page."""
    figures = evaluated(plan)
    lines = ["", "== what was learned ==", table(figures), "", MEANING, "", finetune_line(plan), "", "== try next =="]
    for shows, command in next_commands(plan):
        lines += [f"# {shows}", command]
    return "\n".join(lines)


def table(figures: Figures) -> str:
    """The figures of the validation split beside their trivial baselines and what this demo is expected to reach."""
    lines = [f"{'on text kept aside for validation':<34}{'reached':>9}{'trivial':>9}  {'expected'}"]
    for key, name, baseline, expected in _ROWS:
        trivial = figures.get(baseline) if isinstance(baseline, str) else baseline
        lines.append(f"{name:<34}{shown(figures.get(key)):>9}{shown(trivial):>9}  {expected}")
    return "\n".join(lines)


def shown(value: float | None) -> str:
    """Three digits, or a dash where a stage wrote no such figure."""
    return "-" if value is None else f"{value:.3f}"


def evaluated(plan: Plan) -> Figures:
    """What the evaluate stage found; none where it has not run."""
    path = plan.folder.path / "evaluation.json"
    return read_json(path) if path.exists() else {}


def last_figures(metrics: Path, prefix: str) -> dict[str, float]:
    """The newest value of every figure with this prefix in a metrics.jsonl; none where there is no file."""
    figures: dict[str, float] = {}
    if metrics.exists():
        for line in metrics.read_text(encoding="utf-8").splitlines():
            values = _parsed(line)
            figures |= {name: value for name, value in values.items() if name.startswith(prefix)}
    return figures


def outcome(plan: Plan, stage: str) -> str:
    """One line on what a stage has done."""
    return {
        "preprocess": _preprocessed,
        "pretrain": _pretrained,
        "export": _exported,
        "finetune": finetune_line,
        "evaluate": _evaluated,
    }[stage](plan)


def finetune_line(plan: Plan) -> str:
    """The classifier's accuracy on the test texts, beside always guessing the commonest package."""
    found = sorted(plan.folder.finetune.glob("*/metrics.json"))
    if not found:
        return "no fine-tuned model"
    figures = read_json(found[0])
    name = f"finetune/{figures['name']}/test"
    return (
        f"fine-tuned classifier, which of {len(figures['labels'])} packages a test text comes from: accuracy "
        f"{shown(figures.get(f'{name}/accuracy'))} (always the commonest package: "
        f"{shown(figures.get(f'{name}/trivial_accuracy'))})"
    )


def _preprocessed(plan: Plan) -> str:
    manifest: dict[str, Any] = read_json(plan.folder.manifest)
    splits = ", ".join(f"{split['tokens']:,} tokens for {name}" for name, split in manifest["splits"].items())
    return f"{splits}; a vocabulary of {manifest['tokenizer']['vocab_size']:,} pieces"


def _pretrained(plan: Plan) -> str:
    training, steps = last_figures(plan.folder.metrics, "train/"), last_figures(plan.folder.metrics, "step")
    return (
        f"{steps.get('step', 0):,.0f} steps, generator loss {shown(training.get('train/generator/loss'))}, "
        f"discriminator loss {shown(training.get('train/discriminator/loss'))}"
    )


def _exported(plan: Plan) -> str:
    names = sorted(path.name for path in plan.folder.export.iterdir() if (path / "config.json").exists())
    return f"Hugging Face folders: {', '.join(names)}"


def _evaluated(plan: Plan) -> str:
    figures = evaluated(plan)
    return ", ".join(f"{name} {shown(figures.get(key))}" for key, name, _, _ in _ROWS)


def _parsed(line: str) -> dict[str, float]:
    """A line of metrics.jsonl; nothing for one that a kill cut short."""
    try:
        return json.loads(line)
    except ValueError:
        return {}
