"""Linear layers of a CPU: products of bfloat16 where its vector units have none, and GELU that is not kept.

Such products are multiplied in float32: torch's own loop has a fourth to a fortieth of its speed (AVX2). Promise: what
the unit would compute: factors rounded to bfloat16, their products summed in float32, the sum rounded to bfloat16; the
gradients of weights and biases are not rounded at all. What is kept for the backward pass is bfloat16. Price: passes
that convert. In float32 the input of a GELU is kept and its output computed again. Price: one pass.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu, linear

from model.paths import by_float32, by_hand

_LOW = torch.bfloat16


class Linear(nn.Linear):
    """torch's module, with this form under bfloat16 autocast where it is taken."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) -> (..., out_features)."""
        lowered = by_hand(x) and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == _LOW
        if lowered and by_float32(_LOW):
            return _Linear.apply(x, self.weight, self.bias)
        return super().forward(x)


class GeluLinear(Linear):
    """linear(gelu(x)), of which a CPU keeps x alone in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) -> (..., out_features)."""
        if by_hand(x) and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            return _GeluLinear.apply(x, self.weight, self.bias)
        return super().forward(gelu(x))


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return linear(gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        to_x = to_weight = None
        upstream = gradient.flatten(0, -2)
        if ctx.needs_input_grad[1]:
            to_weight = upstream.t() @ gelu(x).flatten(0, -2)
        if ctx.needs_input_grad[0]:
            to_x = torch.ops.aten.gelu_backward((upstream @ weight).view(x.shape), x)
        return to_x, to_weight, upstream.sum(0) if ctx.biased else None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        low = x.to(_LOW)
        ctx.save_for_backward(low, weight)
        ctx.dtype, ctx.biased = x.dtype, bias is not None
        with torch.autocast("cpu", enabled=False):
            flat, rounded = low.flatten(0, -2).float(), weight.to(_LOW).float()
            found = flat @ rounded.t() if bias is None else torch.addmm(bias.to(_LOW).float(), flat, rounded.t())
        return found.to(_LOW).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        low, weight = ctx.saved_tensors
        to_x = to_weight = None
        with torch.autocast("cpu", enabled=False):
            upstream = gradient.flatten(0, -2).float()
            if ctx.needs_input_grad[0]:
                to_x = (upstream @ weight.to(_LOW).float()).to(ctx.dtype).view(low.shape)
            if ctx.needs_input_grad[1]:
                to_weight = (upstream.t() @ low.flatten(0, -2).float()).to(weight.dtype)
            to_bias = upstream.sum(0).to(weight.dtype) if ctx.biased else None
        return to_x, to_weight, to_bias


def batched_product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """scale * a b, of batches of matrices of one type, in that type."""
    if not by_float32(a.dtype):
        return torch.baddbmm(a.new_empty(1, 1, 1), a, b, beta=0, alpha=scale, out=out)
    with torch.autocast("cpu", enabled=False):
        found = torch.baddbmm(torch.empty(1, 1, 1), a.float(), b.float(), beta=0, alpha=scale)
    return found.to(a.dtype) if out is None else out.copy_(found)
