"""Attention by tiles equals the plain form, outputs and gradients, for every kind of mask; dropout drops alike."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import model.tiles
from model.attention import attend, attention_bias, rotary, rotate
from model.dropout import keep_mask
from model.tiles import attend_by_tiles, tiles_of

HEADS, SIZE = 2, 8


def plain(qkv: Tensor, groups: Tensor, window: int | None, turned: bool) -> Tensor:
    query, key, value = qkv.unflatten(-1, (3, HEADS, SIZE)).permute(2, 0, 3, 1, 4)
    if turned:
        query, key = rotate(torch.stack((query, key)), rotary(qkv.shape[1], SIZE, 100.0, qkv.device))
    return attend(query, key, value, attention_bias(groups, window), 0.0).transpose(1, 2).flatten(-2)


def tiled(qkv: Tensor, groups: Tensor, window: int | None, turned: bool) -> Tensor:
    angles = rotary(qkv.shape[1], SIZE, 100.0, qkv.device) if turned else None
    return attend_by_tiles(qkv, HEADS, tiles_of(groups, window), angles, 0.0)


def numbered(kind: str, rows: int, seq: int) -> Tensor:
    place = torch.arange(seq)
    if kind == "one":
        return torch.zeros(rows, seq, dtype=torch.long)
    if kind == "padded":  # each row has its own end
        return torch.stack([(place >= seq - 5 * row).long().neg() for row in range(rows)])
    if kind == "packed":
        return torch.stack([(place + 11 * row) // 37 for row in range(rows)])
    return (place % 3 + place // 100).expand(rows, seq)  # "scattered": documents that are not in one piece


@pytest.mark.parametrize("kind", ["one", "padded", "packed", "scattered"])
@pytest.mark.parametrize(("seq", "window"), [(40, None), (40, 5), (300, None), (300, 17), (257, 64)])
def test_outputs_and_gradients_equal_the_plain_form(kind: str, seq: int, window: int | None) -> None:
    generator = torch.Generator().manual_seed(seq)
    groups = numbered(kind, 3, seq)
    qkv = torch.randn(3, seq, 3 * HEADS * SIZE, generator=generator).requires_grad_()
    upstream = torch.randn(3, seq, HEADS * SIZE, generator=generator)
    for turned in (False, True):
        results = []
        for form in (plain, tiled):
            out = form(qkv, groups, window, turned)
            results.append((out, *torch.autograd.grad(out, qkv, upstream)))
        assert_close(results[1], results[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["one", "packed"])
def test_bfloat16_errs_no_more_than_the_plain_form(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    groups = numbered(kind, 2, 200)
    exact = torch.randn(2, 200, 3 * HEADS * SIZE, generator=generator).bfloat16().float().requires_grad_()
    upstream = torch.randn(2, 200, HEADS * SIZE, generator=generator).bfloat16()
    rounded = exact.detach().bfloat16().requires_grad_()
    right = plain(exact, groups, None, True)
    truth = right.detach(), *torch.autograd.grad(right, exact, upstream.float())
    errors = []
    for form in (plain, tiled):
        out = form(rounded, groups, None, True)
        found = out.detach(), *torch.autograd.grad(out, rounded, upstream)
        errors.append([float((a.float() - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True)])
    assert all(mine < 1.2 * theirs + 1e-4 for theirs, mine in zip(*errors, strict=True)), errors
    assert max(errors[1]) < 0.01


def test_only_keys_that_may_be_seen_are_multiplied() -> None:
    groups = torch.arange(1024)[None] // 128
    assert all(tile.keys == tile.queries and tile.bias is None for tile in tiles_of(groups, None))
    near = tiles_of(torch.zeros(1, 1024, dtype=torch.long), 64)
    assert max(tile.keys.stop - tile.keys.start for tile in near) == 256


def test_rows_without_a_mask_are_one_tile_as_far_as_the_cache_goes() -> None:
    tiles = tiles_of(torch.zeros(40, 128, dtype=torch.long), None)
    assert [tile.rows for tile in tiles] == [slice(0, 16), slice(16, 32), slice(32, 40)]
    assert all(tile.bias is None for tile in tiles)


def test_document_numbers_may_be_any() -> None:
    groups = torch.tensor([[7, 7, -(10**12), -(10**12), 10**12, 7]]).repeat(1, 60)
    qkv = torch.randn(1, 360, 3 * HEADS * SIZE, generator=torch.Generator().manual_seed(0))
    assert_close(tiled(qkv, groups, None, False), plain(qkv, groups, None, False), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seq", [24, 150])
def test_dropout_drops_probabilities_forward_and_backward(seq: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the masks noted, against autograd over the same masks put into a whole matrix."""
    rows, p, masks = 2, 0.25, []
    groups = numbered("packed", rows, seq)
    qkv = torch.randn(rows, seq, 3 * HEADS * SIZE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tiles = tiles_of(groups, 20)

    def noted(count: int, p: float) -> Tensor:
        masks.append(keep_mask(count, p))
        return masks[-1]

    monkeypatch.setattr(model.tiles, "keep_mask", noted)
    out = attend_by_tiles(qkv, HEADS, tiles, None, p)
    found = torch.autograd.grad(out, qkv, torch.ones_like(out))[0]
    whole = torch.ones(rows, HEADS, seq, seq)
    for tile, mask in zip(tiles, masks, strict=True):
        part = whole[tile.rows, :, tile.queries, tile.keys]
        part.copy_(mask.view(part.shape).ne(0))
    query, key, value = qkv.unflatten(-1, (3, HEADS, SIZE)).permute(2, 0, 3, 1, 4)
    bias = attention_bias(groups, 20)
    assert bias is not None
    chances = (query @ key.mT * SIZE**-0.5 + bias).softmax(-1) * whole / (1 - p)
    expected = (chances @ value).transpose(1, 2).flatten(-2)
    assert_close(out, expected, atol=1e-5, rtol=0)
    assert_close(found, torch.autograd.grad(expected, qkv, torch.ones_like(out))[0], atol=1e-5, rtol=0)
