"""The part of a model card about fine-tuned tasks: figures beside those of simpler answers.

A task has the figures of the split that it reports (test, or dev where there is no test file), and those of each file
that `evaluate.py` read by its models later; several seeds are shown by their median and standard deviation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.release.markdown import table
from pipeline.release.records import EVALUATIONS, Records, as_dict

LOWER_IS_BETTER = {"loss", "mse"}
"""Figures that no ranking is taken from."""
SHOWN = 30
"""Tasks at most, and figures of a task."""
FIGURES = 3
RIVALS = {"trivial": "the trivial answer", "bag_of_words": "a bag of words", "random": "random weights"}
"""Simpler answers, in the order of the table's columns."""

_HEAD = (
    "task",
    "split or file",
    "training examples",
    "figure",
    "reached",
    "trivial answer",
    "bag of words",
    "random weights",
)
_NOTE = (
    "Several seeds: median ± standard deviation. Random weights: the same training without pretraining. A file is one "
    "that `pipeline/evaluate.py` read by the fine-tuned models."
)


@dataclass(frozen=True)
class _Reading:
    """What one task reached on one split or file."""

    where: str
    figures: Mapping[str, float]
    deviations: Mapping[str, float]
    """Standard deviations over the seeds; {} of one alone."""
    seeds: int
    rivals: Mapping[str, Mapping[str, float]]
    """By the keys of RIVALS."""


def tasks_section(records: Records) -> str:
    """A table of the tasks fine-tuned from this network: reached, trivial answer, bag of words, random weights."""
    if not records.tasks:
        return "Not measured. `pipeline/finetune.py` with one of `configs/tasks/` measures it."
    rows = []
    for place, metrics in list(records.tasks.items())[:SHOWN]:
        examples = as_dict(metrics.get("examples")).get("train")
        count = "" if examples is None else f"{examples:,}"
        for reading in _readings(metrics, _twin(metrics, records)):
            for name in list(reading.figures)[:FIGURES]:
                others = [reading.rivals[rival].get(name) for rival in RIVALS]
                shown = ["not measured" if other is None else f"{other:.4f}" for other in others]
                rows.append((f"`{place}`", reading.where, count, name, _reached(reading, name), *shown))
    more = f"\n\n… and {len(records.tasks) - SHOWN} more." if len(records.tasks) > SHOWN else ""
    return f"{_NOTE}\n\n{table(_HEAD, rows)}{more}"


def task_failures(records: Records) -> list[str]:
    """Tasks in which the network is no better than one of the simpler answers, by the first figure."""
    failures = []
    for place, metrics in records.tasks.items():
        for reading in _readings(metrics, _twin(metrics, records)):
            name = next((name for name in reading.figures if name not in LOWER_IS_BETTER), None)
            if name is None:
                continue
            value = reading.figures[name]
            others = {RIVALS[rival]: figures.get(name) for rival, figures in reading.rivals.items()}
            beaten = [
                f"{rival} ({other:.3f})" for rival, other in others.items() if other is not None and other >= value
            ]
            if beaten:
                what = f"Task `{place}`, {reading.where}: {name} {value:.3f}"
                failures.append(f"{what} is no better than {' and '.join(beaten)}.")
    return failures[:SHOWN]


def _readings(metrics: Mapping[str, Any], twin: Mapping[str, Any]) -> Iterator[_Reading]:
    """The split that the fine-tuning reports, then each file. twin: the same from random weights, or empty."""
    split = str(metrics.get("reported_split", ""))
    figures, rivals = _named(metrics, ""), {"random": _named(twin, "")}
    rivals |= {rival: _named(metrics, f"{split}/{rival}_") for rival in ("trivial", "bag_of_words")}
    deviations = {name: value for name in figures if (value := _named(metrics, f"{name}/").get("std")) is not None}
    yield _Reading(split, figures, deviations, len(metrics.get("seeds") or ()), rivals)
    for file, found in as_dict(metrics.get(EVALUATIONS)).items():
        others = as_dict(twin.get(EVALUATIONS)).values()
        same = [one for one in others if all(one.get(key) == found.get(key) for key in ("data_sha256", "read"))]
        figures = _numbers(found.get("metrics"))
        rivals = {
            "trivial": _numbers(found.get("trivial")),
            "bag_of_words": {},
            "random": _numbers(same[0].get("metrics")) if same else {},
        }
        spread = {name: _numbers(value).get("std") for name, value in as_dict(found.get("spread")).items()}
        yield _Reading(
            f"file `{file}`{_otherwise(metrics, found)}",
            {name: value for name, value in figures.items() if name != "loss"},
            {name: value for name, value in spread.items() if value is not None},
            len(found.get("seeds") or ()),
            rivals,
        )


def _reached(reading: _Reading, name: str) -> str:
    deviation = reading.deviations.get(name)
    spread = "" if deviation is None else f" ± {deviation:.4f}, {reading.seeds} seeds"
    return f"{reading.figures[name]:.4f}{spread}"


def _otherwise(metrics: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Settings by which a file was read otherwise than in training."""
    settings, read = as_dict(metrics.get("settings")), as_dict(found.get("read"))
    indifferent = ("format", "fields", "batch_size")
    changed = [
        f"{key} {value}"
        for key, value in read.items()
        if key not in indifferent and settings.get(f"finetune.{key}", value) != value
    ]
    return f", {', '.join(changed)}" if changed else ""


def _named(metrics: Mapping[str, Any], begin: str) -> dict[str, float]:
    """finetune/NAME/BEGIN…, by what follows: those without a slash in it, in the family's order."""
    prefix = f"finetune/{metrics.get('name')}/{begin}"
    found = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
    return {key: value for key, value in _numbers(found).items() if "/" not in key}


def _numbers(values: Any) -> dict[str, float]:
    return {key: float(value) for key, value in as_dict(values).items() if isinstance(value, int | float)}


def _twin(metrics: Mapping[str, Any], records: Records) -> Mapping[str, Any]:
    """The same fine-tuning from random weights; empty where there was none."""
    return next((other for other in records.random.values() if _same(other) == _same(metrics)), {})


def _same(metrics: Mapping[str, Any]) -> tuple[Any, Any]:
    free = {"finetune.name", "finetune.weights"}
    settings = metrics.get("settings") or {}
    return {key: value for key, value in settings.items() if key not in free}, metrics.get("inputs")
