"""The part of a model card about fine-tuned tasks: figures beside those of simpler answers.

Every figure is of the split that the task reports (test, or dev where there is no test file); several seeds are shown
by their median and standard deviation.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.release.markdown import table
from pipeline.release.records import Records

LOWER_IS_BETTER = {"loss", "mse"}
"""Figures that no ranking is taken from."""
SHOWN = 30
"""Tasks at most, and figures of a task."""
FIGURES = 3


def tasks_section(records: Records) -> str:
    """A table of the tasks fine-tuned from this network: reached, trivial answer, bag of words, random weights."""
    if not records.tasks:
        return "Not measured. `pipeline/finetune.py` with one of `configs/tasks/` measures it."
    rows = []
    for place, metrics in list(records.tasks.items())[:SHOWN]:
        twin = _twin(metrics, records)
        examples = (metrics.get("examples") or {}).get("train")
        for name, value in list(_figures(metrics).items())[:FIGURES]:
            spread = metrics.get(f"{_prefix(metrics)}{name}/std")
            reached = f"{value:.4f}" + (f" ± {spread:.4f}, {len(metrics['seeds'])} seeds" if spread is not None else "")
            others = (
                _beside(metrics, f"trivial_{name}"),
                _beside(metrics, f"bag_of_words_{name}"),
                _figures(twin).get(name),
            )
            shown = ["not measured" if other is None else f"{other:.4f}" for other in others]
            count = "" if examples is None else f"{examples:,}"
            rows.append((f"`{place}`", str(metrics.get("reported_split", "")), count, name, reached, *shown))
    head = (
        "task",
        "split",
        "training examples",
        "figure",
        "reached",
        "trivial answer",
        "bag of words",
        "random weights",
    )
    more = f"\n\n… and {len(records.tasks) - SHOWN} more." if len(records.tasks) > SHOWN else ""
    note = "Several seeds: median ± standard deviation. Random weights: the same training without pretraining."
    return f"{note}\n\n{table(head, rows)}{more}"


def task_failures(records: Records) -> list[str]:
    """Tasks in which the network is no better than one of the simpler answers, by the first figure."""
    failures = []
    for place, metrics in records.tasks.items():
        figures = {name: value for name, value in _figures(metrics).items() if name not in LOWER_IS_BETTER}
        if not figures:
            continue
        name, value = next(iter(figures.items()))
        rivals = {
            "the trivial answer": _beside(metrics, f"trivial_{name}"),
            "a bag of words": _beside(metrics, f"bag_of_words_{name}"),
            "random weights": _figures(_twin(metrics, records)).get(name),
        }
        beaten = [f"{rival} ({other:.3f})" for rival, other in rivals.items() if other is not None and other >= value]
        if beaten:
            failures.append(f"Task `{place}`: {name} {value:.3f} is no better than {' and '.join(beaten)}.")
    return failures[:SHOWN]


def _prefix(metrics: Mapping[str, Any]) -> str:
    return f"finetune/{metrics.get('name')}/"


def _figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """finetune/NAME/METRIC: those of the reported split, in the order in which the family gives them."""
    named = {
        key.removeprefix(_prefix(metrics)): value for key, value in metrics.items() if key.startswith(_prefix(metrics))
    }
    return {key: float(value) for key, value in named.items() if "/" not in key and isinstance(value, int | float)}


def _beside(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(f"{_prefix(metrics)}{metrics.get('reported_split')}/{name}")
    return float(value) if isinstance(value, int | float) else None


def _twin(metrics: Mapping[str, Any], records: Records) -> Mapping[str, Any]:
    """The same fine-tuning from random weights; empty where there was none."""
    return next((other for other in records.random.values() if _same(other) == _same(metrics)), {})


def _same(metrics: Mapping[str, Any]) -> tuple[Any, Any]:
    free = {"finetune.name", "finetune.weights"}
    settings = metrics.get("settings") or {}
    return {key: value for key, value in settings.items() if key not in free}, metrics.get("inputs")
