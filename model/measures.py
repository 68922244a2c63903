"""What is counted, and the figures that come of it: sums that add up over micro-batches and ranks, and means and
curves from them.

Promise: every sum is float64 and adds up. AUC comes from two histograms of a score: exact but for scores that share a
bin (ties). A ratio without a denominator is reported as 0, an AUC of one class as 0.5.
"""

import math

import torch
from torch import Tensor

from model.config import SPECIAL_IDS

BINS = 8192
SCORES = (-20.0, 20.0)
"""Range of the binned logits, steps of 0.005. Equal bins of the probability would lump confident scores together."""
DOUBLINGS = (0.0, 64.0)
"""Range of the binned log2(count + 1) of a piece, steps of 1/128."""

Sums = dict[str, Tensor]


def total(values: Tensor) -> Tensor:
    """Detached float64 scalar: the sum of values."""
    return values.detach().sum(dtype=torch.float64)


def language_sums(guesses: Tensor, targets: Tensor, sampled: Tensor, chosen: Tensor) -> Sums:
    """How well the masked tokens are guessed.

    guesses (batch, k, vocab): scores; targets, sampled (batch, k); chosen (batch, k) bool: where there is one.
    """
    return {
        "generator/right": total((guesses.argmax(-1) == targets) & chosen),
        "generator/sampled_right": total((sampled == targets) & chosen),
    }


def unigram_sums(targets: Tensor, chosen: Tensor, frequency: Tensor) -> Sums:
    """Hits of always guessing the most frequent ordinary piece. targets, chosen (batch, k); frequency (vocab,)."""
    ordinary = len(SPECIAL_IDS)
    commonest = frequency[ordinary:].argmax() + ordinary
    return {"generator/unigram_right": total((targets == commonest) & chosen)}


def language_metrics(sums: Sums) -> dict[str, float]:
    """Accuracies of language_sums (and unigram_sums, if they are there)."""
    masked = sums["generator/masked"]
    names = {"accuracy": "right", "sampled_accuracy": "sampled_right", "unigram_accuracy": "unigram_right"}
    return {
        f"generator/{k}": ratio(sums[f"generator/{v}"], masked) for k, v in names.items() if f"generator/{v}" in sums
    }


def detection_sums(logits: Tensor, fake: Tensor, real: Tensor) -> Sums:
    """How well replaced tokens are told. logits, fake, real (batch, seq); padding is neither fake nor real."""
    said = logits > 0
    return {
        "discriminator/fakes": total(fake),
        "discriminator/called_fake": total(said & (fake | real)),
        "discriminator/caught": total(said & fake),
        **_histograms("discriminator/score", logits, SCORES, fake, real),
    }


def frequency_sums(corrupted: Tensor, fake: Tensor, real: Tensor, frequency: Tensor) -> Sums:
    """Histograms of how frequent the pieces are. corrupted, fake, real (batch, seq); frequency (vocab,)."""
    doublings = (frequency.double() + 1).log2()
    return _histograms("discriminator/frequency", doublings[corrupted], DOUBLINGS, fake, real)


def detection_metrics(sums: Sums) -> dict[str, float]:
    """Figures of detection_sums (and frequency_sums, if they are there).

    loss_over_entropy: the loss against that of a discriminator that knows the fake rate and nothing else.
    """
    tokens, fakes = sums["discriminator/tokens"], sums["discriminator/fakes"]
    called, caught = sums["discriminator/called_fake"], sums["discriminator/caught"]
    fake_rate = ratio(fakes, tokens)
    metrics = {
        "discriminator/accuracy": ratio(tokens - fakes - called + 2 * caught, tokens),
        "discriminator/precision": ratio(caught, called),
        "discriminator/recall": ratio(caught, fakes),
        "discriminator/fake_rate": fake_rate,
        "discriminator/auc": area(sums["discriminator/score_real"], sums["discriminator/score_fake"]),
        "discriminator/loss_over_entropy": ratio(ratio(sums["discriminator/nats"], tokens), binary_entropy(fake_rate)),
    }
    if "discriminator/frequency_real" in sums:
        by_frequency = area(sums["discriminator/frequency_real"], sums["discriminator/frequency_fake"])
        metrics["discriminator/frequency_auc"] = max(by_frequency, 1 - by_frequency)  # whichever way round tells more
    return metrics


def ratio(numerator: Tensor | float, denominator: Tensor | float) -> float:
    """numerator / denominator, 0 if there is nothing to divide by."""
    return float(numerator) / float(denominator) if float(denominator) else 0.0


def binary_entropy(rate: float) -> float:
    """Entropy of a coin with this rate, in nats: the loss of a discriminator that knows nothing but the rate."""
    return 0.0 if rate in (0.0, 1.0) else -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)


def area(negatives: Tensor, positives: Tensor) -> float:
    """Area under the ROC curve from histograms of the scores, (bins,) each: ties count one half."""
    below = negatives.cumsum(0) - negatives
    pairs = negatives.sum() * positives.sum()
    return ratio((positives * (below + negatives / 2)).sum(), pairs) if float(pairs) else 0.5


def _histograms(name: str, scores: Tensor, bounds: tuple[float, float], fake: Tensor, real: Tensor) -> Sums:
    """Counts of scores in equal bins between bounds, (BINS,) float64, of the fake and of the real."""
    low, high = bounds
    place = ((scores.detach().double() - low) * (BINS / (high - low))).long().clamp(0, BINS - 1).flatten()
    empty = torch.zeros(BINS, dtype=torch.float64, device=scores.device)
    return {
        f"{name}_fake": empty.scatter_add(0, place, fake.double().flatten()),
        f"{name}_real": empty.scatter_add(0, place, real.double().flatten()),
    }
