"""Compiled and recomputing objectives learn what the plain one learns; what cannot be compiled is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.attention import document_groups
from model.compiled import compile_forward
from model.config import BODIES
from model.objectives.base import Batch, Objective, objective_names
from model.paths import plain_forms
from model.stretches import count_stretches, room_for
from pipeline.base.errors import UserError
from pipeline.training.compiling import kernel_folder, prepare
from tests.model.tiny import tiny_batch, tiny_objective

CPU = torch.device("cpu")


def learned(objective: Objective, batch: Batch) -> dict[str, Tensor]:
    """The loss, its sums and all gradients."""
    objective.zero_grad()
    loss, sums = objective(batch, objective.counts(batch))
    loss.backward()
    gradients = {name: one.grad for name, one in objective.named_parameters() if one.grad is not None}
    return {"loss": loss.detach(), **sums, **gradients}


def run_config(**changes: Any) -> Any:
    from pipeline.base.config import load_config
    from tests.conftest import ROOT

    return load_config(ROOT / "configs" / "small.yaml", [f"{key}={value}" for key, value in changes.items()])


def same_when_compiled(objective: Objective, batch: Batch, **options: Any) -> None:
    with plain_forms():
        expected = learned(objective, batch)
    compile_forward(objective, fullgraph=True, **options)
    found = learned(objective, batch)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", objective_names())
def test_the_whole_forward_is_one_graph_and_learns_the_same(name: str, body: str) -> None:
    batch = tiny_batch(documents=True, padding=True)
    same_when_compiled(tiny_objective(name, body, layers=2), batch, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("p", [0.0, 0.1])
def test_the_form_of_a_gpu_is_one_graph_too(body: str, p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's meta device: shapes alone, by torch's own rules for the flash kernels."""
    monkeypatch.setattr("model.attention.by_flash", lambda x, size: True)
    objective = tiny_objective("electra", body, layers=2, dropout=p, attention_dropout=p).to("meta")
    batch = tiny_batch(documents=True, padding=True)
    room = room_for(count_stretches(document_groups(batch.ids, batch.documents).numbers))
    compile_forward(objective, fullgraph=True, backend="aot_eager")
    found = learned(objective, replace(batch.to("meta"), room=room))
    assert found.keys() > dict(objective.named_parameters()).keys()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("plain", [False, True])
def test_recomputed_layers_give_the_same_gradients_and_keep_less(body: str, plain: bool) -> None:
    kept: list[int] = []

    def learn(recompute: bool) -> dict[str, Tensor]:
        objective = tiny_objective("electra", body, dropout=0.1, attention_dropout=0.1)
        if recompute:
            objective.recompute()
        torch.manual_seed(3)
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            return learned(objective, tiny_batch(documents=True))

    def note(x: Tensor) -> Tensor:
        kept[-1] += x.numel() * x.element_size()
        return x

    if plain:
        with plain_forms():
            expected, found = learn(False), learn(True)
    else:
        expected, found = learn(False), learn(True)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert kept[1] < 0.5 * kept[0]


def test_gradients_of_graphs_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph writes to the same memory again; what a parameter keeps must not lie there."""
    monkeypatch.setattr(torch, "compile", lambda forward, **options: forward)
    objective = tiny_objective("electra", "electra")
    batch = tiny_batch()
    expected = learned(objective, batch)
    given: list[Tensor] = []
    word = objective.networks()["discriminator"].encoder.layers[0].ffn_in.weight
    word.register_hook(lambda gradient: given.append(gradient))
    compile_forward(objective, graphs=True)
    found = learned(objective, batch)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert word.grad is not None
    assert word.grad.data_ptr() != given[0].data_ptr()


def test_auto_compiles_on_a_gpu_alone_and_not_at_stage_3(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("pipeline.training.compiling.compile_forward", lambda objective, graphs: asked.append(graphs))
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    objective = tiny_objective("electra", "electra")
    gpu = torch.device("cuda")
    three = {"deepspeed.zero_optimization.stage": 3}
    assert not prepare(objective, run_config(), CPU)
    assert not prepare(objective, run_config(**three), gpu)
    assert not prepare(objective, run_config(**{"train.compile": "never"}), gpu)
    assert prepare(objective, run_config(), gpu)
    assert prepare(objective, run_config(**{"train.compile": "graphs"}), gpu)
    assert asked == [False, True]
    assert str(kernel_folder()) == "/somewhere/electra/kernels"
    with pytest.raises(UserError, match=r"train\.compile graphs does not go with .*stage 3"):
        prepare(objective, run_config(**three, **{"train.compile": "graphs"}), gpu)
    with pytest.raises(UserError, match="needs a GPU"):
        prepare(objective, run_config(**{"train.compile": "graphs"}), CPU)


def test_recompute_is_set_by_its_key() -> None:
    objective = tiny_objective("mlm", "modernbert")
    prepare(objective, run_config(**{"train.recompute": "true"}), CPU)
    assert all(network.encoder.recompute for network in objective.networks().values())
