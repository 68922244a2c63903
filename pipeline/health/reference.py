"""Reference curves of our own presets: mean and band of each health figure, by step, in health/curves/NAME.json.

Promise: a run is held against a reference only where all that shapes its curves is the preset's: objective, sizes,
vocabulary, batch, schedule and rates. Precision, ranks, seed and text may differ. Price: a changed setting, however
slight, leaves the run without a reference.
"""

import json
from bisect import bisect_right
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from pipeline.base.config import RunConfig, flatten
from pipeline.base.section import Section

SECTIONS = ("objective", "model", "optimizer", "schedule", "init")
KEYS = ("data.sequence_length", "data.segments", "data.isolate_documents", "train.batch_size", "train.steps")
"""What shapes the curves, beside the vocabulary's size."""
FEW = 6
"""Most differing keys that are told of a run that is near a preset."""


class Place(NamedTuple):
    """A reference at one step."""

    mean: float
    low: float
    high: float


class Curve(Section):
    """A figure's mean and band at some steps, ascending."""

    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]

    def at(self, step: int) -> Place | None:
        """Linear between the steps; None before the first and after the last."""
        steps = self.steps
        if not steps or not steps[0] <= step <= steps[-1]:
            return None
        after = min(bisect_right(steps, step), len(steps) - 1)
        before = max(after - 1, 0)
        part = (step - steps[before]) / max(steps[after] - steps[before], 1)
        return Place(*(side[before] + part * (side[after] - side[before]) for side in (self.mean, self.low, self.high)))


class Reference(Section):
    """The curves of one preset."""

    preset: str
    """Name of its file in configs/, without .yaml."""
    about: str
    """Which runs they are of, in words."""
    shape: dict[str, Any]
    """`shape_of` those runs."""
    curves: dict[str, Curve]
    """By the figure's name in metrics.jsonl."""

    @property
    def last(self) -> int:
        """The last step that is compared."""
        return max((curve.steps[-1] for curve in self.curves.values()), default=0)


def shape_of(config: RunConfig, vocab_size: int) -> dict[str, Any]:
    """What shapes the curves of a run, by dotted key, as JSON has it."""
    values = config.to_dict()
    flat = flatten(values)
    found = flatten({name: values[name] for name in SECTIONS}) | {key: flat[key] for key in KEYS}
    return dict(json.loads(json.dumps(found | {"tokenizer.vocab_size": vocab_size})))


def reference_for(config: RunConfig, vocab_size: int) -> Reference | None:
    """The reference that the run is to be held against."""
    shape = shape_of(config, vocab_size)
    return next((one for one in references() if one.shape == shape), None)


def no_reference(config: RunConfig, vocab_size: int) -> str:
    """Why a run has none, in a sentence."""
    shape = shape_of(config, vocab_size)
    apart = {one.preset: _differences(one.shape, shape) for one in references()}
    names = ", ".join(f"configs/{name}.yaml" for name in sorted(apart))
    told = f"Nothing is compared: there are reference curves for the settings of {names} only"
    near = min(apart, key=lambda name: len(apart[name]), default="")
    if near and len(apart[near]) <= FEW:
        return f"{told}, and this run differs from {near} in {', '.join(apart[near])}."
    return f"{told}."


@cache
def references() -> tuple[Reference, ...]:
    """All that there are, by name."""
    folder = resources.files("pipeline.health").joinpath("curves")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(Reference.model_validate_json(file.read_bytes()) for file in files)


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    missing = object()
    return [key for key in sorted(one.keys() | other.keys()) if one.get(key, missing) != other.get(key, missing)]
