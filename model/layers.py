"""Small parts that both bodies and the heads share: a LayerNorm that stays in float32, a layer that keeps nothing for
the backward pass, and the start of the weights.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.utils.checkpoint import checkpoint

from model.config import ModelConfig


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in float32, whatever the type of input and parameters (DeepSpeed's fp16 makes both half)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) of any type -> (..., width) float32."""
        bias = None if self.bias is None else self.bias.float()
        return layer_norm(x.float(), self.normalized_shape, self.weight.float(), bias, self.eps)


def through(layer: nn.Module, recompute: bool, x: Tensor, *given: Any) -> Tensor:
    """layer(x, *given). recompute: only x is kept of it for the backward pass, which runs it again, dropout alike."""
    if not (recompute and torch.is_grad_enabled()):
        found: Tensor = layer(x, *given)
        return found
    again: Tensor = checkpoint(layer, x, *given, use_reentrant=False)
    return again


@torch.no_grad()
def initialize(module: nn.Module, model: ModelConfig, seed: int) -> None:
    """Weights from a normal distribution cut at two standard deviations, biases 0, LayerNorm 1 and 0 (as torch makes
    it).

    BERT's and ELECTRA's start (Clark et al. 2020, appendix A). From a generator of its own: the same weights on every
    rank, and torch's global state is not moved. A tied weight is drawn once, as the embedding table that it is.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = model.embedding_initializer_range or model.initializer_range
    drawn: set[int] = set()
    for part in module.modules():
        if not isinstance(part, nn.Linear | nn.Embedding):
            continue
        if id(part.weight) not in drawn:
            deviation = tables if isinstance(part, nn.Embedding) else model.initializer_range
            nn.init.trunc_normal_(part.weight, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator)
            drawn.add(id(part.weight))
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
