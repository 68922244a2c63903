"""Self-attention on a GPU by its flash kernel for sequences of varying length: each stretch of one document is one.

Promise: what attention.attend computes where each document of a row is in one piece; no mask and no scores in memory,
and nothing that depends on the data is asked of the device. Price: half precision, heads of 8 to 256 in eights, and the
host has to say how many stretches there may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stretches:
    """Where documents begin and end in the rows of a batch, one behind the other."""

    bounds: Tensor
    """(n + 1,) int32: stretch i is [bounds[i], bounds[i + 1]); those behind the last are empty."""
    longest: int
    """No stretch has more tokens."""
    window: int | None
    """Tokens seen on each side, None for all."""


def count_stretches(numbers: Tensor) -> list[int]:
    """How many stretches of one number each row has, read on the host. numbers (batch, seq), see document_groups."""
    return (1 + (numbers[:, 1:] != numbers[:, :-1]).sum(1)).tolist()


def room_for(counts: Sequence[int]) -> int:
    """A number of stretches that holds these rows'. Few numbers occur, so that few kernels are compiled: one a row, or
    four, eight, 16, ... of them.
    """
    if all(count == 1 for count in counts):
        return len(counts)
    room = 4 * len(counts)
    while room < sum(counts):
        room *= 2
    return room


def stretches_of(numbers: Tensor, room: int, window: int | None) -> Stretches:
    """The stretches of equal numbers. numbers (batch, seq); room: at least as many as there are."""
    rows, seq = numbers.shape
    if room == rows:
        return Stretches(torch.arange(rows + 1, dtype=torch.int32, device=numbers.device) * seq, seq, window)
    total = rows * seq
    begins = torch.ones_like(numbers, dtype=torch.bool)
    begins[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
    place = torch.arange(total, dtype=torch.int32, device=numbers.device)
    behind = torch.full((room + 1,), total, dtype=torch.int32, device=numbers.device)
    bounds = torch.cat((place.masked_fill(~begins.flatten(), total), behind)).sort().values
    return Stretches(bounds[: room + 1], seq, window)


def attend_by_stretches(query: Tensor, key: Tensor, value: Tensor, seen: Stretches, p: float) -> Tensor:
    """Softmax(query key' / sqrt(head_size)) value within stretches and windows, the probabilities dropped at rate p.

    query, key, value (batch, seq, heads, head_size) -> the same.
    """
    mixed = flash(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), seen, p)
    return mixed.unflatten(0, query.shape[:2])


def flash(query: Tensor, key: Tensor, value: Tensor, seen: Stretches, p: float) -> Tensor:
    """The kernel: torch's varlen_attn, which drops nothing; where p > 0 the operator beneath it, which does.

    query, key, value (tokens, heads, head_size), half precision, on the GPU -> the same.
    """
    window = -1 if seen.window is None else seen.window
    ends = (seen.bounds, seen.bounds, seen.longest, seen.longest)
    if p == 0:
        from torch.nn.attention.varlen import varlen_attn  # takes seconds to import

        found = varlen_attn(query, key, value, *ends, window_size=(window, window))
        assert isinstance(found, Tensor)
        return found
    both = {"window_size_left": window, "window_size_right": window}
    operator = torch.ops.aten._flash_attention_forward
    mixed: Tensor = operator(query, key, value, *ends, p, False, return_debug_mask=False, **both)[0]
    return mixed
