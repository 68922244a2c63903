"""What the generator's scores at the masked positions give: their cross-entropy, and the tokens drawn from them.

Promise: both in float32, of one softmax. A few rows are worked on at a time, loss, draw and gradient in one pass; what
is kept is the gradient, in the type of the scores. Price: one backward pass a forward pass. A compiler is given the
plain form, which it fuses for itself.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.paths import in_one_pass
from model.sampling import draw_by_weight, draw_tokens

_ROWS = 16
"""Rows at a time on a CPU: few enough to stay in the cache."""
_SCORES = 1 << 25
"""Scores at a time on a GPU: enough to fill it, 128 MiB in float32."""


def read_guesses(guesses: Tensor, targets: Tensor, chosen: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
    """(cross-entropy summed over the chosen positions, a float32 scalar; ids drawn, (batch, k)).

    guesses (batch, k, vocab): scores; targets (batch, k): ids; chosen (batch, k) bool: the others do not count;
    uniforms (batch, k, 2) in [0, 1), by draw_uniforms, or None to draw nothing: the ids are 0. No gradient passes
    through the draws.
    """
    if in_one_pass(guesses):
        return _Read.apply(guesses, targets, chosen, uniforms)
    log_probabilities = guesses.float().log_softmax(-1)
    nats = -log_probabilities.gather(-1, targets[..., None]).squeeze(-1)
    drawn = torch.zeros_like(targets) if uniforms is None else draw_tokens(log_probabilities.detach(), uniforms)
    return (nats * chosen).sum(), drawn


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, guesses: Tensor, targets: Tensor, chosen: Tensor, uniforms: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        learns = ctx.needs_input_grad[0]
        scores, wanted, counts = guesses.flatten(0, 1), targets.flatten()[:, None], chosen.flatten()[:, None].float()
        nats = torch.empty(len(scores), device=scores.device)
        drawn = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        rows = _ROWS if scores.device.type == "cpu" else max(1, _SCORES // scores.shape[-1])
        gradient = torch.empty_like(scores) if learns else None
        for start in range(0, len(scores), rows):
            part = slice(start, start + rows)
            top = scores[part].amax(-1, keepdim=True).float()
            weights = scores[part].float() if scores.dtype != torch.float32 else scores[part].clone()
            aim = weights.gather(-1, wanted[part])
            weights.sub_(top).exp_()
            if uniforms is None:
                mass = weights.sum(-1, keepdim=True)
            else:
                drawn[part], total = draw_by_weight(weights, uniforms.flatten(0, 1)[part])
                mass = total[:, None]
            nats[part] = ((mass.log() + top - aim) * counts[part]).squeeze(1)
            if gradient is not None:
                weights.mul_(counts[part] / mass).scatter_add_(-1, wanted[part], -counts[part])
                gradient[part] = weights
        ctx.gradient = None if gradient is None else gradient.view_as(guesses)
        drawn = drawn.view_as(targets)
        ctx.mark_non_differentiable(drawn)
        return nats.sum(), drawn

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            raise RuntimeError("a second backward pass: the gradient of the generator's scores is kept for one")
        return gradient.mul_(upstream), None, None, None
