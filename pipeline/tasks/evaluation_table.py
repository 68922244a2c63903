"""Figures of a checkpoint as a table that says what each means and what a network that learned nothing would reach."""

import math
from collections.abc import Callable, Mapping

Figures = Mapping[str, float]

_ROWS: tuple[tuple[str, Callable[[Figures], float | None], str], ...] = (
    ("generator/loss", lambda f: None, "nats a masked token; its exponential is the perplexity"),
    (
        "generator/accuracy",
        lambda f: f.get("generator/unigram_accuracy"),
        "masked tokens guessed right; beside: always guessing the most frequent piece",
    ),
    ("generator/sampled_accuracy", lambda f: None, "sampled tokens that are the original, and so no fakes"),
    ("discriminator/fake_rate", lambda f: None, "tokens that the discriminator sees replaced"),
    (
        "discriminator/loss",
        lambda f: _entropy(f["discriminator/fake_rate"]),
        "nats a token; beside: the entropy of the fake rate, the loss of knowing that rate alone",
    ),
    ("discriminator/loss_over_entropy", lambda f: 1.0, "the loss over that entropy: 1.0 has learned nothing"),
    (
        "discriminator/auc",
        lambda f: f.get("discriminator/frequency_auc", 0.5),
        "chance that a fake scores above an original, 0.5 is blind; beside: by a piece's frequency alone",
    ),
    (
        "discriminator/accuracy",
        lambda f: 1 - f["discriminator/fake_rate"],
        "tokens told right; beside: calling every token original",
    ),
    (
        "discriminator/precision",
        lambda f: f["discriminator/fake_rate"],
        "called fake, and are; beside: calling all fake",
    ),
    ("discriminator/recall", lambda f: 0.0, "fakes that are called fake; beside: calling every token original"),
)


def table(figures: Figures) -> str:
    """A line a figure: name, value, the trivial answer's value, meaning. Names without "eval/"; others are left out."""
    lines = [f"{'figure':<32}{'value':>9}{'trivial':>9}  meaning"]
    for name, trivial, meaning in _ROWS:
        if name in figures:
            beside = trivial(figures)
            lines.append(f"{name:<32}{_shown(figures[name])}{_shown(beside)}  {meaning}")
    return "\n".join(lines)


def verdict(figures: Figures) -> str:
    """What the figures say, in a sentence each."""
    said = []
    accuracy, unigram = figures["generator/accuracy"], figures.get("generator/unigram_accuracy")
    if unigram is not None:
        beyond = "has left" if accuracy > unigram + 0.02 else "is still on"
        said.append(f"The generator {beyond} the unigram plateau ({accuracy:.3f} against {unigram:.3f}).")
    ratio = figures.get("discriminator/loss_over_entropy")
    if ratio is not None and math.isfinite(ratio):
        learned = "has learned nothing beyond the fake rate yet" if ratio > 0.999 else "has begun to tell fakes"
        well = "tells fakes well" if ratio < 0.8 else learned
        said.append(f"The discriminator {well} (loss over entropy {ratio:.3f}).")
    return " ".join(said)


def _entropy(rate: float) -> float | None:
    if not 0 < rate < 1:
        return None
    return -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)


def _shown(value: float | None) -> str:
    return f"{'' if value is None else format(value, '.4f'):>9}"
