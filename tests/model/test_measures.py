"""Figures from sums, against scikit-learn on the scores themselves."""

import math

import numpy
import pytest
import torch
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

from model.measures import (
    area,
    binary_entropy,
    detection_metrics,
    detection_sums,
    frequency_sums,
    language_metrics,
    language_sums,
    ratio,
    total,
    unigram_sums,
)


@pytest.mark.parametrize(("center", "spread"), [(0.0, 2.0), (-2.2, 0.1), (-9.0, 3.0)])
def test_detection_figures_are_scikit_learns(center: float, spread: float) -> None:
    """Also for scores that hardly differ (an untrained discriminator) and for very confident ones."""
    generator = torch.Generator().manual_seed(0)
    fake = torch.rand(40, 100, generator=generator) < 0.1
    padding = torch.rand(40, 100, generator=generator) < 0.2
    fake &= ~padding
    logits = center + spread * (torch.randn(40, 100, generator=generator) + 0.7 * fake)
    tokens = ~padding
    nats = torch.nn.functional.binary_cross_entropy_with_logits(logits, fake.float(), reduction="none")[tokens]
    sums = detection_sums(logits, fake, tokens & ~fake)
    sums |= {"discriminator/nats": total(nats), "discriminator/tokens": total(tokens)}
    figures = detection_metrics(sums)
    truth, scores = fake[tokens].numpy(), logits[tokens].numpy()
    said = scores > 0
    rate = truth.mean()
    expected = {
        "accuracy": accuracy_score(truth, said),
        "precision": precision_score(truth, said, zero_division=0),
        "recall": recall_score(truth, said),
        "fake_rate": rate,
        "auc": roc_auc_score(truth, scores),
        "loss_over_entropy": float(nats.double().mean()) / -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate)),
    }
    for name, value in expected.items():
        assert figures[f"discriminator/{name}"] == pytest.approx(value, abs=1e-3 if name == "auc" else 1e-6), name


def test_the_frequency_score_is_the_better_way_round() -> None:
    generator = torch.Generator().manual_seed(0)
    frequency = torch.randint(0, 10**6, (500,), generator=generator)
    ids = torch.randint(0, 500, (50, 100), generator=generator)
    rare = 1 - frequency[ids] / 10**6
    fake = torch.rand(50, 100, generator=generator) < 0.3 * rare  # rare pieces are the fakes
    sums = detection_sums(torch.zeros(50, 100), fake, ~fake) | frequency_sums(ids, fake, ~fake, frequency)
    sums |= {"discriminator/nats": torch.tensor(1.0), "discriminator/tokens": torch.tensor(5000.0)}
    auc = roc_auc_score(fake.flatten().numpy(), frequency[ids].flatten().numpy())
    assert auc < 0.45
    assert detection_metrics(sums)["discriminator/frequency_auc"] == pytest.approx(1 - auc, abs=5e-3)


def test_language_figures_count_chosen_positions_only() -> None:
    scores = torch.log_softmax(torch.eye(8)[torch.tensor([[5, 6, 7], [5, 5, 0]])] * 5, -1)
    targets = torch.tensor([[5, 6, 6], [5, 7, 0]])
    sampled = torch.tensor([[5, 5, 6], [7, 7, 0]])
    chosen = torch.tensor([[True, True, True], [True, True, False]])
    frequency = torch.tensor([9.0, 9, 99, 99, 9, 3, 8, 1])  # special pieces are frequent and never masked
    sums = language_sums(scores, targets, sampled, chosen) | unigram_sums(targets, chosen, frequency)
    figures = language_metrics(sums | {"generator/masked": total(chosen)})
    assert figures == {
        "generator/accuracy": 3 / 5,
        "generator/sampled_accuracy": 3 / 5,
        "generator/unigram_accuracy": 2 / 5,
    }


def test_degenerate_cases_are_numbers() -> None:
    assert ratio(torch.tensor(1.0), torch.tensor(0.0)) == 0.0
    assert binary_entropy(0.0) == binary_entropy(1.0) == 0.0
    assert binary_entropy(0.5) == pytest.approx(math.log(2))
    nothing = torch.zeros(4)
    assert area(torch.ones(4), nothing) == area(nothing, torch.ones(4)) == 0.5


def test_area_counts_ties_half() -> None:
    negatives, positives = torch.tensor([2.0, 1, 0, 3]), torch.tensor([0.0, 1, 2, 3])
    scores = (
        numpy.repeat(numpy.arange(4), negatives.int().numpy()),
        numpy.repeat(numpy.arange(4), positives.int().numpy()),
    )
    truth = numpy.concatenate([numpy.zeros(len(scores[0])), numpy.ones(len(scores[1]))])
    assert area(negatives, positives) == pytest.approx(roc_auc_score(truth, numpy.concatenate(scores)))
