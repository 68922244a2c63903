"""Dropout: each element is 0 with probability p and divided by 1 - p otherwise.

Promise: torch's generator alone decides, so a seed fixes the masks; at rate 0 nothing is drawn. On a CPU a mask takes
one byte of it where torch's own takes a number: a tenth of the time. An element's probability is p to 2 ** -32: each
call drops at one of the two multiples of 1/256 next to p, drawn so that they are p in the mean. Price: the share that
one call drops is not p but up to 1/256 beside it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from model.paths import by_hand

_BYTES = 256
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Dropout(nn.Dropout):
    """torch's module, with the form for a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> the same shape and type."""
        p = self.p if self.training else 0.0
        if p == 0:
            return x
        return _Dropped.apply(x, p) if by_hand(x) else functional.dropout(x, p)

    def added(self, x: Tensor, branch: Tensor) -> Tensor:
        """x + dropout(branch): the residual of a sublayer. x, branch of one shape -> the type of x."""
        p = self.p if self.training else 0.0
        if p == 0 or not by_hand(x):
            return x + functional.dropout(branch, p)
        return _AddedDropped.apply(x, branch, p)


def keep_mask(count: int, p: float) -> Tensor:
    """(count,) int8 on the CPU: -1, all bits set, where an element is kept, and 0 where it is dropped."""
    words = torch.empty(count // 8 + 2, dtype=torch.int64).random_(-(2**63), None)
    fraction = (int(words[-1]) & (2**32 - 1)) * 2.0**-32
    drops = int(p * _BYTES + fraction)  # so many of a byte's values
    mask = words.view(torch.int8)[:count]
    if drops in (0, _BYTES):
        return mask.fill_(0 if drops else -1)
    first = _BYTES // 2 - drops
    return mask.clamp_(first - 1, first).sub_(first)


def kept(x: Tensor, mask: Tensor) -> Tensor:
    """x where its mask keeps it and 0 elsewhere, in a new tensor. mask: see keep_mask."""
    integers = _INTEGERS[x.element_size()]
    return (x.view(integers) & mask.view(x.shape).to(integers)).view(x.dtype)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask = keep_mask(x.numel(), p)
        ctx.save_for_backward(mask)
        ctx.scale = 1 / (1 - p)
        return kept(x, mask).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return kept(gradient, mask).mul_(ctx.scale), None


class _AddedDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, p: float) -> Tensor:
        mask = keep_mask(branch.numel(), p)
        ctx.save_for_backward(mask)
        ctx.scale, ctx.dtype = 1 / (1 - p), branch.dtype
        return torch.add(x, kept(branch, mask), alpha=ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradient, kept((gradient * ctx.scale).to(ctx.dtype), mask), None
