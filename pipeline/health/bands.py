"""Holds a run's figures against a preset's reference curves, and says in words when one stays outside its band.

A figure that is outside on the same side at STREAK looked-at steps in a row is a finding; it ends when the figure was
inside as often. After the reference's last step nothing is compared, and what was found stays as it is.
"""

from collections.abc import Iterable, Mapping

from pipeline.health.facts import Finding
from pipeline.health.reference import Place, Reference

STREAK = 3
CODE = "out-of-band"
"""A finding's code is CODE/FIGURE, the figure's name without train/."""

_WORDS: dict[str, tuple[str, str]] = {
    "generator/accuracy": (
        "the generator is not learning: it guesses fewer tokens than it should by now. Look at the rate that its "
        "parameters get, at whether its loss reaches them (train/gradient/generator), and at whether the corpus is "
        "text in its order (data/report.html).",
        "the generator guesses more tokens than text should let it: its input may give the answer away, or the "
        "corpus repeats itself. Look at what is masked (model/masking.py) and at the duplicates in data/report.html.",
    ),
    "discriminator/fake_rate": (
        "too few tokens are replaced: the generator's samples are the original too often, or fewer positions are "
        "masked than should be. Look at objective.mask_fraction, at how samples are drawn (model/sampling.py), and at "
        "text that repeats itself.",
        "too many tokens are replaced: the generator's samples are worse than they should be by now. Look at "
        "train/generator/accuracy: if it is low too, the generator is not learning; else look at how samples are drawn "
        "(model/sampling.py).",
    ),
    "discriminator/loss_over_entropy": (
        "the discriminator tells replaced tokens too easily: something other than their meaning gives them away, or "
        "the generator's samples are poor. Look at train/generator/accuracy, at what the samples are put into, and at "
        "padding and special tokens.",
        "the discriminator is not learning: it does worse than it should by now against knowing the share of replaced "
        "tokens. Look at its labels, at objective.discriminator_weight, at its rate, and at whether its input keeps "
        "the order of the text.",
    ),
    "gradient": (
        "hardly any gradient reaches the {part}. Look at the weight of its loss, at what is detached or frozen, and at "
        "gradients divided twice.",
        "the gradient of the {part} is too large. Look at the learning rate, at the loss's weight and counts, and at "
        "the initial weights; clipping then shrinks all other parameters' updates.",
    ),
    "update_ratio": (
        "the {part} hardly move: their updates are too small for their weights. Look at the rate that the optimizer "
        "gets, at its parameter groups, and at requires_grad.",
        "the updates of the {part} are too large for their weights. Lower optimizer.lr or lengthen "
        "schedule.warmup_steps, in another run_dir, and look at the initial weights.",
    ),
    "noise_scale": (
        "the gradients of different batches agree too well: the batches may be alike. Look at repeated rows and "
        "documents, and at the stream's position.",
        "the gradients of different batches hardly agree: they are mostly noise. Look at labels and targets, at "
        "whether the corpus is text in its order, and at whether the batch is as large as train.batch_size says.",
    ),
}
"""Of a figure, or of its first part where each network has one: what it means to be below, and above."""

_PARTS = {
    "discriminator": "discriminator's own parameters",
    "generator": "generator's own parameters",
    "embeddings": "embeddings",
}


def figures() -> tuple[str, ...]:
    """The prefixes in metrics.jsonl of what can be compared."""
    return tuple(f"train/{name}" for name in _WORDS)


class Bands:
    """Looks at figures in the order of their steps."""

    def __init__(self, reference: Reference | None, active: Iterable[str] = ()) -> None:
        """active: codes of findings that have begun, as before a restart."""
        self.reference = reference
        self.found: dict[str, Finding] = {code: Finding(code, "") for code in active if code.startswith(f"{CODE}/")}
        self.outside: dict[str, int] = {}
        self.inside: dict[str, int] = {}

    def look(self, step: int, figures: Mapping[str, float]) -> list[Finding]:
        """What is outside its band for long enough, after this step. figures: by their names in metrics.jsonl."""
        for name, curve in self.reference.curves.items() if self.reference else ():
            place = curve.at(step)
            if place is not None and name in figures:
                self._count(name, step, figures[name], place)
        return list(self.found.values())

    def _count(self, name: str, step: int, value: float, place: Place) -> None:
        side = (value > place.high) - (value < place.low)
        code = f"{CODE}/{name.removeprefix('train/')}"
        before = self.outside.get(name, 0)
        self.outside[name] = before + side if before * side >= 0 and side else side
        self.inside[name] = 0 if side else self.inside.get(name, 0) + 1
        if abs(self.outside[name]) >= STREAK and code not in self.found:
            preset = self.reference.preset if self.reference else ""
            self.found[code] = Finding(code, words(name, preset, step, value, place))
        if self.inside[name] >= STREAK:
            self.found.pop(code, None)


def words(name: str, preset: str, step: int, value: float, place: Place) -> str:
    """What it means that the figure is outside, with the numbers and what to do."""
    figure = name.removeprefix("train/")
    first, _, part = figure.partition("/")
    below, above = _WORDS[figure if figure in _WORDS else first]
    what = (above if value > place.high else below).format(part=_PARTS.get(part, part))
    meaning, _, advice = what.partition(". ")
    return (
        f"{meaning} ({name} is {value:.3g} at step {step}; runs of the preset {preset} have {place.mean:.3g}, and stay "
        f"within {place.low:.3g} and {place.high:.3g}). {advice}"
    )
