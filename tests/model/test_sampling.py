"""The sampler draws from the softmax: chi-square, and against searches in float64."""

import pytest
import torch
from scipy.stats import chi2

from model.sampling import draw_tokens, draw_uniforms
from tests.model.tiny import searched_draws


@pytest.mark.parametrize("vocab", [7, 256, 1000, 1024])
def test_draws_follow_the_distribution(vocab: int) -> None:
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(vocab)) * 2
    uniforms = draw_uniforms(0, torch.arange(100), torch.arange(400)[None].expand(100, -1))
    draws = draw_tokens(logits.log_softmax(-1).expand(100, 400, vocab), uniforms)
    expected = logits.double().softmax(-1) * draws.numel()
    counts = torch.bincount(draws.flatten(), minlength=vocab).double()
    rare = expected < 5  # pooled, as the test's approximation needs
    expected = torch.cat((expected[~rare], expected[rare].sum()[None]))
    counts = torch.cat((counts[~rare], counts[rare].sum()[None]))
    expected, counts = expected[expected > 0], counts[expected > 0]
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert statistic < chi2.ppf(1 - 1e-6, len(expected) - 1)


def test_draws_are_those_of_a_float64_search() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 3000, generator=generator) * 3
    uniforms = torch.rand(200, 2, generator=generator)
    assert torch.equal(draw_tokens(logits.log_softmax(-1), uniforms), searched_draws(logits, uniforms))


@pytest.mark.parametrize("vocab", [300, 30_000])
def test_rounding_of_the_scores_does_not_change_the_draws(vocab: int) -> None:
    """Ranks and micro-batches round otherwise. One search over 30,000 changed 7 of these 4,096."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4096, vocab, generator=generator) * 2
    uniforms = torch.rand(4096, 2, generator=generator)
    drawn = draw_tokens(scores.log_softmax(-1), uniforms)
    scores += torch.randn(4096, vocab, generator=generator) * 3e-7
    assert torch.equal(draw_tokens(scores.log_softmax(-1), uniforms), drawn)


def test_impossible_tokens_are_never_drawn_even_at_the_edges() -> None:
    logits = torch.full((4, 700), -torch.inf)
    logits[:, [300, 301]] = 0.0
    draws = draw_tokens(logits.log_softmax(-1), torch.tensor([0.0, 0.4999, 0.5001, 1 - 2**-24])[:, None].expand(4, 2))
    assert draws.tolist() == [300, 300, 301, 301]


def test_no_gradient_passes() -> None:
    scores = torch.randn(3, 50, requires_grad=True).log_softmax(-1)
    assert not draw_tokens(scores, torch.rand(3, 2)).requires_grad


@pytest.mark.parametrize("vocab", [7, 600])
def test_what_is_not_a_number_gives_some_id_and_no_error(vocab: int) -> None:
    """So that the loss, which is not a number either, is what a person is told of."""
    draws = draw_tokens(torch.full((3, vocab), torch.nan), torch.tensor([0.0, 0.5, 0.99])[:, None].expand(3, 2))
    assert bool(((draws >= 0) & (draws < vocab)).all())
