"""Self-attention on a CPU: plain matrix products over tiles of queries and the keys that these may see.

Promise: what attention.attend computes, and its gradients, by a backward pass of its own: scores and softmax in float32
inside the kernels, rounded to the compute type where a product reads them. Only keys of a tile's documents and windows
are multiplied. Price: the probabilities of the tiles are kept for the backward pass, with a byte each for dropout.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.dropout import keep_mask, kept
from model.products import batched_product

TILE = 128
"""Queries of a tile where not every key is seen."""
_PAIRS = 1 << 18
"""Pairs of one head that are worked on at once: more would not stay in the cache."""


@dataclass(frozen=True)
class Tile:
    """Queries and keys of some rows."""

    rows: slice
    queries: slice
    keys: slice
    bias: Tensor | None
    """(rows or 1, 1, queries, keys) float32: 0 where attention is allowed and -inf elsewhere; None: everywhere."""


def tiles_of(groups: Tensor, window: int | None) -> list[Tile]:
    """Tiles that hold every pair that may be attended to. groups (batch, seq): see attention.Groups.numbers."""
    batch, seq = groups.shape
    window = seq if window is None else window
    whole = bool((groups == groups[:, :1]).all())
    if whole and window >= seq - 1:
        return [Tile(rows, slice(0, seq), slice(0, seq), None) for rows in _parts(batch, seq * seq)]
    if whole or seq <= TILE:
        return list(_alike(groups[:1] if whole else groups, batch, window))
    return list(_each(groups, window))


def _parts(batch: int, pairs: int) -> list[slice]:
    size = max(1, _PAIRS // pairs)
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def _alike(groups: Tensor, batch: int, window: int) -> Iterator[Tile]:
    """The same tiles in every row."""
    seq = groups.shape[1]
    for start in range(0, seq, TILE):
        queries = slice(start, min(start + TILE, seq))
        keys = slice(max(0, start - window), min(seq, queries.stop + window))
        bias = _bias(groups, queries, keys, window)
        for rows in _parts(batch, TILE * (keys.stop - keys.start)):
            yield Tile(rows, queries, keys, bias if bias is None or len(bias) == 1 else bias[rows])


def _each(groups: Tensor, window: int) -> Iterator[Tile]:
    """Tiles of their own for each row: only the keys between the first and the last of the queries' documents."""
    seq = groups.shape[1]
    first, last = (bounds.tolist() for bounds in _bounds(groups))
    for row in range(len(groups)):
        for start in range(0, seq, TILE):
            stop = min(start + TILE, seq)
            low = max(0, start - window, min(first[row][start:stop]))
            high = min(seq, stop + window, max(last[row][start:stop]) + 1)
            queries, keys, rows = slice(start, stop), slice(low, high), slice(row, row + 1)
            yield Tile(rows, queries, keys, _bias(groups[rows], queries, keys, window))


def _bounds(groups: Tensor) -> tuple[Tensor, Tensor]:
    """(batch, seq) each: the first and the last position of a token's group."""
    seq = groups.shape[1]
    number = groups - groups.min() if bool(groups.max() - groups.min() < seq) else groups.unique(return_inverse=True)[1]
    place = torch.arange(seq)[None].expand_as(groups)
    size = (len(groups), int(number.max()) + 1)
    first = torch.full(size, seq).scatter_reduce(1, number, place, "amin").gather(1, number)
    return first, torch.zeros(size, dtype=torch.int64).scatter_reduce(1, number, place, "amax").gather(1, number)


def _bias(groups: Tensor, queries: slice, keys: slice, window: int) -> Tensor | None:
    allowed = groups[:, None, queries, None] == groups[:, None, None, keys]
    place = torch.arange(groups.shape[1])
    allowed &= (place[queries, None] - place[None, keys]).abs() <= window
    if bool(allowed.all()):
        return None
    return torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)


def attend_by_tiles(
    qkv: Tensor, heads: int, tiles: list[Tile], angles: tuple[Tensor, Tensor] | None, p: float
) -> Tensor:
    """Multi-head self-attention, the probabilities dropped at rate p.

    qkv (batch, seq, 3 * hidden): query, key and value, each of `heads` heads -> (batch, seq, hidden). angles: turn
    query and key by them, see attention.rotary.
    """
    return _Attend.apply(qkv, heads, tiles, angles, p)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, heads: int, tiles: list[Tile], angles: tuple[Tensor, Tensor] | None, p: float
    ) -> Tensor:
        batch, seq, _ = qkv.shape
        parts = qkv.view(batch, seq, 3, heads, -1).permute(2, 0, 3, 1, 4).contiguous()
        if angles is not None:
            turn(parts[:2], *angles)
        query, key, value = parts
        scale = parts.shape[-1] ** -0.5
        out = qkv.new_empty(batch, seq, heads, parts.shape[-1])
        saved = []
        for tile in tiles:
            scores = batched_product(_cut(query, tile, tile.queries), _cut(key, tile, tile.keys).mT, scale)
            if tile.bias is not None:
                _heads(scores, heads).add_(tile.bias.to(scores.dtype))
            probabilities = scores.softmax(-1)
            mask = keep_mask(probabilities.numel(), p) if p else None
            dropped = probabilities if mask is None else kept(probabilities, mask)
            mixed = batched_product(dropped, _cut(value, tile, tile.keys), 1 / (1 - p))
            out[tile.rows, tile.queries] = _heads(mixed, heads).transpose(1, 2)
            saved += [probabilities, mask]
        ctx.save_for_backward(parts, *saved)
        ctx.tiles, ctx.angles, ctx.p = tiles, angles, p
        return out.flatten(-2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts, *saved = ctx.saved_tensors
        _, batch, heads, seq, size = parts.shape
        scale, after = size**-0.5, 1 / (1 - ctx.p)
        query, key, value = parts
        whole = all(tile.queries.stop - tile.queries.start == seq for tile in ctx.tiles)
        # Keys of several tiles: their parts add up in float32.
        back = torch.empty_like(parts) if whole else torch.zeros_like(parts, dtype=torch.float32)
        gradient = gradient.view(batch, seq, heads, size).transpose(1, 2).contiguous()
        for tile, probabilities, mask in zip(ctx.tiles, saved[::2], saved[1::2], strict=True):
            out = _cut(gradient, tile, tile.queries)
            dropped = probabilities if mask is None else kept(probabilities, mask)
            to_dropped = batched_product(out, _cut(value, tile, tile.keys).mT, after)
            if mask is not None:
                to_dropped = kept(to_dropped, mask)
            to_scores = torch._softmax_backward_data(to_dropped, probabilities, -1, probabilities.dtype)
            for number, (a, b, where) in enumerate(
                (
                    (to_scores, _cut(key, tile, tile.keys), tile.queries),
                    (to_scores.mT, _cut(query, tile, tile.queries), tile.keys),
                    (dropped.mT, out, tile.keys),
                )
            ):
                factor = after if number == 2 else scale
                if whole:
                    batched_product(a, b, factor, back[number, tile.rows].flatten(0, 1))
                else:
                    back[number, tile.rows, :, where].add_(_heads(batched_product(a, b, factor), heads))
        if ctx.angles is not None:
            cos, sin = ctx.angles
            turn(back[:2], cos, -sin)
        found = torch.empty(batch, seq, 3, heads, size, dtype=parts.dtype)
        found.copy_(back.permute(1, 3, 0, 2, 4))
        return found.flatten(-3), None, None, None, None


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turns x (..., seq, head_size) by its positions in place, in float32. cos, sin: see attention.rotary."""
    first, second = (half.float() for half in x.chunk(2, -1))
    turned = (first * cos).addcmul_(second, sin, value=-1), (first * sin).addcmul_(second, cos)
    for half, values in zip(x.chunk(2, -1), turned, strict=True):
        half.copy_(values)


def _cut(x: Tensor, tile: Tile, where: slice) -> Tensor:
    """Of x (batch, heads, seq, size) a tile's part, (rows * heads, where, size)."""
    return x[tile.rows].flatten(0, 1)[:, where]


def _heads(x: Tensor, heads: int) -> Tensor:
    """(rows * heads, ...) -> (rows, heads, ...)."""
    return x.unflatten(0, (-1, heads))
