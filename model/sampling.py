"""Sampling from a distribution over the vocabulary, in float32, by inverse distribution function.

Promise: exact up to float32; a token of probability 0 is never drawn. Price: one uniform number a draw (Gumbel noise
needs one for every piece of the vocabulary), and one pass over the probabilities: blocks are summed, and only the
chosen block is searched.
"""

import torch
from torch import Tensor

_BLOCK = 256


@torch.no_grad()
def draw_tokens(log_probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """An id for each row, without gradient. log_probabilities (..., vocab), uniforms (...) in [0, 1) -> (...)."""
    return draw_by_weight(log_probabilities.exp(), uniforms)[0]


@torch.no_grad()
def draw_by_weight(weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """An id for each row, with a probability in proportion to its weight, and the sum of each row's weights.

    weights (..., vocab) float32, uniforms (...) in [0, 1) -> (...), (...).
    """
    vocab = weights.shape[-1]
    whole = vocab // _BLOCK * _BLOCK
    masses = weights[..., :whole].unflatten(-1, (-1, _BLOCK)).sum(-1)
    if whole < vocab:
        masses = torch.cat((masses, weights[..., whole:].sum(-1, keepdim=True)), -1)
    total = masses.sum(-1)
    block, rest = _invert(masses, uniforms * total)
    places = block[..., None] * _BLOCK + torch.arange(_BLOCK, device=weights.device)
    chosen = weights.gather(-1, places.clamp(max=vocab - 1)).masked_fill(places >= vocab, 0)
    within, _ = _invert(chosen, rest)
    return (block * _BLOCK + within).clamp(max=vocab - 1), total


def _invert(weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """First index whose cumulative weight exceeds target, and what is left of target before it.

    weights (..., n), target (...) -> (...), (...).
    """
    cumulative = weights.cumsum(-1)
    total = cumulative[..., -1]
    # Rounding may lift the target to the total: just below it, the index found always has weight.
    target = target.clamp(min=0).minimum(total.nextafter(torch.zeros_like(total)))
    index = torch.searchsorted(cumulative, target[..., None], right=True)
    index = index.clamp(max=weights.shape[-1] - 1)  # where nothing is a number, any id will do: the loss tells
    before = (cumulative.gather(-1, index) - weights.gather(-1, index)).squeeze(-1)
    return index.squeeze(-1), target - before
