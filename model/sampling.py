"""Sampling from a distribution over the vocabulary, by inverse distribution function, in two steps: a block of the
vocabulary by the blocks' sums, then a token of the block.

Promise: exact up to the weights' float32. Rounding of 1e-7 in the scores changes a draw in a million, not one in a
thousand, as one search over the whole vocabulary would: few bounds are compared, and sums are float64. Ranks and
micro-batches that round otherwise so draw the same tokens. A token of probability 0 is never drawn.
Price: two uniform numbers a draw (Gumbel noise needs one for every piece of the vocabulary), one pass over the weights.
"""

import torch
from torch import Tensor

from model.counter import Stream, random_uniforms

_BLOCK = 256


def draw_uniforms(seed: int, sample: Tensor, positions: Tensor) -> Tensor:
    """What the draws at these positions need: (batch, k, 2) in [0, 1). sample (batch,): global indices; positions
    (batch, k)."""
    streams = (Stream.BLOCK, Stream.SAMPLE)
    return torch.stack([random_uniforms(seed, stream, sample, positions) for stream in streams], -1)


@torch.no_grad()
def draw_tokens(log_probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """An id for each row, without gradient. log_probabilities (..., vocab), uniforms (..., 2) in [0, 1) -> (...)."""
    return draw_by_weight(log_probabilities.exp(), uniforms)[0]


@torch.no_grad()
def draw_by_weight(weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """An id for each row, with a probability in proportion to its weight, and the sum of each row's weights.

    weights (..., vocab) float32, uniforms (..., 2) in [0, 1) -> (...), (...).
    """
    vocab = weights.shape[-1]
    whole = vocab // _BLOCK * _BLOCK
    masses = weights[..., :whole].unflatten(-1, (-1, _BLOCK)).sum(-1)
    if whole < vocab:
        masses = torch.cat((masses, weights[..., whole:].sum(-1, keepdim=True)), -1)
    block = _invert(masses, uniforms[..., 0])
    places = block[..., None] * _BLOCK + torch.arange(_BLOCK, device=weights.device)
    chosen = weights.gather(-1, places.clamp(max=vocab - 1)).masked_fill(places >= vocab, 0)
    within = _invert(chosen, uniforms[..., 1])
    return (block * _BLOCK + within).clamp(max=vocab - 1), masses.sum(-1)


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """First index whose cumulative weight exceeds that share of the whole. weights (..., n), uniform (...) -> (...)."""
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[..., -1]
    # Rounding may lift the target to the total: just below it, the index found always has weight.
    target = (uniform * total).minimum(total.nextafter(torch.zeros_like(total)))
    index = torch.searchsorted(cumulative, target[..., None], right=True).squeeze(-1)
    return index.clamp(max=weights.shape[-1] - 1)  # where nothing is a number, any id will do: the loss tells
