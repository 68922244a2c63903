"""Forward and backward ask the device for nothing that depends on the data: the host never waits inside them.

Without a GPU by the meta device, whose tensors have no values: reading one, or a shape that depends on one, raises.
"""

from dataclasses import replace

import pytest
import torch

import model.attention
from model.attention import document_groups
from model.config import BODIES
from model.objectives.base import objective_names
from model.stretches import count_stretches, room_for
from tests.model.tiny import tiny_batch, tiny_objective


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", objective_names())
@pytest.mark.parametrize("stretched", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.1])
def test_nothing_is_read(name: str, body: str, stretched: bool, p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.attention, "by_flash", lambda x, size: stretched)
    monkeypatch.setattr("model.guesses.in_one_pass", lambda x: stretched)
    objective = tiny_objective(name, body, dropout=p, attention_dropout=p).to("meta")
    batch = tiny_batch(padding=True, documents=True)
    room = room_for(count_stretches(document_groups(batch.ids, batch.documents).numbers))
    batch = replace(batch.to("meta"), room=room)
    with pytest.raises(RuntimeError):
        batch.ids.sum().item()  # that is how it would be noticed
    loss, sums = objective(batch, objective.counts(batch))
    loss.backward()
    assert all(value.device.type == "meta" for value in sums.values())
    assert all(one.grad is not None for one in objective.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("body", BODIES)
def test_on_a_gpu_nothing_waits(body: str) -> None:
    objective = tiny_objective("electra", body).cuda()
    objective.compute_dtype = torch.bfloat16
    given = tiny_batch(padding=True, documents=True)
    room = room_for(count_stretches(document_groups(given.ids, given.documents).numbers))
    optimizer = torch.optim.AdamW(objective.parameters(), fused=True)
    for warm in (True, False):
        torch.cuda.set_sync_debug_mode("default" if warm else "error")
        try:
            batch = replace(given.pinned().to("cuda"), room=room)
            loss, _ = objective(batch, objective.counts(batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
