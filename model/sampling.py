"""Sampling from a distribution over the vocabulary, in float32, by inverse distribution function.

Promise: exact up to float32; a token of probability 0 is never drawn. Price: one uniform number a draw (Gumbel noise
needs one for every piece of the vocabulary), and one pass over the probabilities: blocks are summed, and only the
chosen block is searched.
"""

import torch
from torch import Tensor

_LARGEST_BLOCK = 256


@torch.no_grad()
def draw_tokens(log_probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """An id for each row, without gradient. log_probabilities (..., vocab), uniforms (...) in [0, 1) -> (...)."""
    probabilities = log_probabilities.exp()
    size = _block_size(probabilities.shape[-1])
    blocks = probabilities.unflatten(-1, (-1, size))
    masses = blocks.sum(-1)
    block, rest = _invert(masses, uniforms * masses.sum(-1))
    chosen = blocks.gather(-2, block[..., None, None].expand(*block.shape, 1, size)).squeeze(-2)
    within, _ = _invert(chosen, rest)
    return block * size + within


def _block_size(vocab: int) -> int:
    """The largest divisor of vocab up to _LARGEST_BLOCK: blocks are then views, and nothing is padded or copied."""
    return next(size for size in range(_LARGEST_BLOCK, 0, -1) if vocab % size == 0)


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
