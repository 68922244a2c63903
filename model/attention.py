"""Self-attention: documents kept apart, local windows, rotary positions, and the kernel that suits the device.

Promise: a token attends to tokens of its own document only; padding attends to padding only, so no row is ever empty.
On a CPU attention goes by tiles of plain products (tiles.py); on a GPU by the flash kernel over stretches of a document
(stretches.py), where the host has counted them, and else with a dense (seq, seq) mask: looking whether a batch needs
none would stop the device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from model.config import PAD_ID, EncoderConfig
from model.paths import by_flash, by_hand
from model.products import Linear
from model.stretches import Stretches, attend_by_stretches, stretches_of
from model.tiles import Tile, attend_by_tiles, tiles_of

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines, each (seq, head_size / 2)."""

Sight = Tensor | list[Tile] | Stretches | None
"""What may be attended to: see `sight`."""


@dataclass(frozen=True)
class Groups:
    """Which tokens of a row attend to each other."""

    numbers: Tensor
    """(batch, seq) int64: those of one number do; padding has -1."""
    room: int | None = None
    """No more stretches of one number are there than this, and each number of a row is one stretch; None: unknown."""


def sight(groups: Groups, window: int | None, head_size: int) -> Sight:
    """What may be attended to, as the form of attention that is taken for the device has it. window: see
    attention_bias.
    """
    numbers, room = groups.numbers, groups.room
    if by_hand(numbers):
        return tiles_of(numbers, window)
    if room is None or not by_flash(numbers, head_size):
        return attention_bias(numbers, window)
    rows, seq = numbers.shape
    if room == rows and (window is None or window >= seq - 1):
        return None
    return stretches_of(numbers, room, window)


def document_groups(ids: Tensor, documents: Tensor | None, room: int | None = None) -> Groups:
    """Documents (batch, seq) as given, by default one a row; padding apart. room: see Groups."""
    numbers = torch.zeros_like(ids) if documents is None else documents
    return Groups(numbers.masked_fill(ids == PAD_ID, -1), room)


def attention_bias(groups: Tensor, window: int | None) -> Tensor | None:
    """0 where attention is allowed and -inf elsewhere, (batch or 1, 1, seq, seq) float32; None if it is allowed
    everywhere.

    groups (batch, seq): see Groups.numbers. window: tokens seen on each side, None for all.
    """
    seq, device = groups.shape[1], groups.device
    allowed = None
    if device.type != "cpu" or torch.compiler.is_compiling() or not bool((groups == groups[:, :1]).all()):
        allowed = groups[:, None, :, None] == groups[:, None, None, :]
    if window is not None and window < seq - 1:
        place = torch.arange(seq, device=device)
        near = (place[:, None] - place[None, :]).abs() <= window
        allowed = near[None, None] if allowed is None else allowed & near
    if allowed is None:
        return None
    return torch.zeros(allowed.shape, device=device).masked_fill(~allowed, -torch.inf)


def rotary(seq: int, head_size: int, theta: float, device: torch.device) -> Rotary:
    """Angles of rotary position embedding (RoFormer, Su et al. 2021), halves paired as transformers does."""
    frequencies = theta ** -(torch.arange(0, head_size, 2, device=device, dtype=torch.float32) / head_size)
    angles = torch.arange(seq, device=device, dtype=torch.float32)[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, by: Rotary) -> Tensor:
    """x (..., seq, head_size) turned by its positions, in float32, returned in its own type."""
    cos, sin = by
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, p: float) -> Tensor:
    """Softmax(query key' / sqrt(head_size) + bias) value, the probabilities dropped at rate p.

    query, key, value (batch, heads, seq, head_size) -> the same; bias: see attention_bias.
    """
    if query.device.type != "cpu":
        bias = None if bias is None else bias.to(query.dtype)
        return scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=p)
    scale = query.shape[-1] ** -0.5
    scores = query @ key.transpose(-1, -2)
    scores = scores * scale if bias is None else torch.add(bias, scores, alpha=scale)
    probabilities = scores.softmax(-1, dtype=torch.float32)
    return dropout(probabilities, p, training=p > 0).to(value.dtype) @ value


class SelfAttention(nn.Module):
    """Multi-head self-attention with one matrix for query, key and value (in this order along its rows)."""

    def __init__(self, config: EncoderConfig, bias: bool) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size, bias=bias)
        self.out = Linear(config.hidden_size, config.hidden_size, bias=bias)

    def forward(self, x: Tensor, seen: Sight, angles: Rotary | None = None) -> Tensor:
        """x (batch, seq, hidden) -> the same shape. angles: turn query and key by them."""
        qkv, p = self.qkv(x), self.dropout if self.training else 0.0
        if isinstance(seen, list):
            return self.out(attend_by_tiles(qkv, self.heads, seen, angles, p))
        qkv = qkv.unflatten(-1, (3, self.heads, -1))
        if isinstance(seen, Stretches):
            query, key = qkv[:, :, :2].unbind(2)
            if angles is not None:
                query, key = (rotate(x, (angles[0][:, None], angles[1][:, None])) for x in (query, key))
            return self.out(attend_by_stretches(query, key, qkv[:, :, 2], seen, p).flatten(-2))
        qkv = qkv.permute(2, 0, 3, 1, 4)
        query, key = qkv[:2] if angles is None else rotate(qkv[:2], angles)
        mixed = attend(query, key, qkv[2], seen, p)
        return self.out(mixed.transpose(1, 2).flatten(-2))
