"""Attention by stretches, with the flash kernel's place taken by a plain reading of what it is given: outputs and
gradients of the form with a mask. On a GPU the kernel itself.
"""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import model.attention
import model.stretches
from model.attention import SelfAttention, attention_bias, document_groups, rotary, sight
from model.config import BODIES, PAD_ID, discriminator_config
from model.objectives.base import Batch, Objective
from model.stretches import Stretches, count_stretches, flash, room_for, stretches_of
from tests.model.tiny import tiny_batch, tiny_model, tiny_objective

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def by_reading(query: Tensor, key: Tensor, value: Tensor, seen: Stretches, p: float) -> Tensor:
    """What the kernel does with its arguments, one stretch at a time."""
    assert query.shape == key.shape == value.shape
    assert query.ndim == 3
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
    assert seen.bounds.dtype == torch.int32
    ends = seen.bounds.tolist()
    assert ends[0] == 0
    assert ends[-1] == len(query)
    parts = []
    for start, stop in pairwise(ends):
        assert 0 <= stop - start <= seen.longest
        q, k, v = (x[start:stop].transpose(0, 1) for x in (query, key, value))
        scores = q @ k.mT * query.shape[-1] ** -0.5
        place = torch.arange(stop - start)
        if seen.window is not None:
            scores = scores.masked_fill((place[:, None] - place).abs() > seen.window, -torch.inf)
        parts.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.stretches, "flash", by_reading)
    monkeypatch.setattr(model.attention, "by_hand", lambda x: False)
    monkeypatch.setattr(model.attention, "by_flash", lambda x, size: True)


def test_stretches_are_runs_of_one_number_within_a_row() -> None:
    numbers = torch.tensor([[0, 0, 1, 1, 1, -1], [1, 1, 1, 1, 1, 1], [1, 2, 2, 3, -1, -1]])
    assert count_stretches(numbers) == [3, 1, 4]
    seen = stretches_of(numbers, room_for([3, 1, 4]), window=4)
    assert seen.bounds.tolist() == [0, 2, 5, 6, 12, 13, 15, 16, 18, 18, 18, 18, 18]
    assert (seen.longest, seen.window) == (6, 4)
    assert stretches_of(numbers[:, :1], 3, None).bounds.tolist() == [0, 1, 2, 3]


def test_the_room_takes_few_sizes() -> None:
    assert room_for([1] * 7) == 7
    assert room_for([1, 2]) == 8
    assert room_for([4, 4]) == 8
    assert room_for([4, 5]) == room_for([16, 0]) == 16


def test_rows_without_padding_or_documents_need_no_stretches(stretched: None) -> None:
    ids = tiny_batch().ids
    assert sight(document_groups(ids, None, 4), None, 8) is None
    near = sight(document_groups(ids, None, 4), 5, 8)
    assert isinstance(near, Stretches)
    assert near.bounds.tolist() == [0, 32, 64, 96, 128]
    assert isinstance(sight(document_groups(ids, None), 5, 8), Tensor)  # not counted: a mask


def counted(batch: Batch) -> Batch:
    room = room_for(count_stretches(document_groups(batch.ids, batch.documents).numbers))
    return Batch(batch.ids, batch.sample, batch.documents, batch.segments, room)


def learned(objective: Objective, batch: Batch) -> list[Tensor]:
    loss, _ = objective(batch, objective.counts(batch))
    objective.zero_grad()
    loss.backward()
    gradients = {name: one.grad for name, one in objective.named_parameters()}
    return [loss.detach(), *(gradient for gradient in gradients.values() if gradient is not None)]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("padding", "documents"), [(False, False), (True, False), (False, True), (True, True)])
def test_an_objective_learns_the_same(
    body: str, padding: bool, documents: bool, stretched: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective("electra", body)
    batch = tiny_batch(padding=padding, documents=documents)
    expected = learned(objective, batch)
    calls = []
    monkeypatch.setattr(model.stretches, "flash", lambda *given: calls.append(given) or by_reading(*given))
    for mine, theirs in zip(learned(objective, counted(batch)), expected, strict=True):
        assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert bool(calls) == (padding or documents or body == "modernbert")


def test_the_kernels_take_what_they_are_given() -> None:
    """Shapes and types alone, by torch's own rules for the operators; both ways back."""
    seen = Stretches(torch.empty(9, dtype=torch.int32, device="meta"), 32, 4)
    for p in (0.0, 0.1):
        made = torch.empty(64, 3, 2, 16, dtype=torch.bfloat16, device="meta", requires_grad=True)
        out = flash(*made.unbind(1), seen, p)
        assert (out.shape, out.dtype) == ((64, 2, 16), torch.bfloat16)
        out.sum().backward()
        assert made.grad is not None
        assert made.grad.shape == made.shape


def packed(rows: int, seq: int) -> tuple[Tensor, Tensor]:
    place = torch.arange(seq)
    documents = torch.stack([(place + 11 * row) // 37 for row in range(rows)])
    ids = torch.full((rows, seq), 9)
    ids[:, seq - 7 :] = PAD_ID
    return ids, documents


@GPU
@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize("turned", [False, True])
def test_on_a_gpu_the_kernel_equals_the_mask(window: int | None, turned: bool) -> None:
    ids, documents = packed(5, 200)
    numbers = document_groups(ids, documents).numbers
    room = room_for(count_stretches(numbers))
    config = discriminator_config(tiny_model("modernbert", hidden_size=128, heads=2), 300)
    attention = SelfAttention(config, bias=False).cuda().eval()
    x = torch.randn(5, 200, 128, device="cuda", requires_grad=True)
    angles = rotary(200, 64, 100.0, x.device) if turned else None
    found = []
    with torch.autocast("cuda", torch.bfloat16):
        for seen in (stretches_of(numbers.cuda(), room, window), attention_bias(numbers.cuda(), window)):
            out = attention(x, seen, angles)
            found.append((out, *torch.autograd.grad(out.float().square().sum(), x)))
    assert_close(found[0], found[1], atol=2e-2, rtol=2e-2)


@GPU
def test_on_a_gpu_the_kernel_drops_at_the_rate() -> None:
    """Values of one give a row's kept share, 1 on the average."""
    seen = Stretches(torch.arange(0, 4097, 512, dtype=torch.int32, device="cuda"), 512, None)
    query, key = torch.randn(2, 4096, 2, 64, device="cuda", dtype=torch.bfloat16).unbind()
    out = flash(query, key, torch.ones_like(key), seen, 0.1).float()
    assert 0.99 < float(out.mean()) < 1.01
    assert float(out.std()) > 0.005
