"""Exports load by from_pretrained and the Auto classes with nothing missing; the way back restores every weight."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from model.config import BODIES
from model.hf import load_hf, to_hf
from tests.model.tiny import tiny_batch, tiny_objective, twin

AUTO = {
    "ElectraForPreTraining": transformers.AutoModelForPreTraining,
    "ElectraForMaskedLM": transformers.AutoModelForMaskedLM,
    "ModernBertForTokenClassification": transformers.AutoModelForTokenClassification,
    "ModernBertForMaskedLM": transformers.AutoModelForMaskedLM,
}


@pytest.mark.parametrize("name", ["discriminator", "generator"])
@pytest.mark.parametrize("body", BODIES)
def test_a_folder_loads_with_the_auto_class(body: str, name: str, tmp_path: Path) -> None:
    network = tiny_objective("electra", body).networks()[name]
    config, state, class_name = to_hf(network)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})  # refuses tensors that share memory
    model, report = AUTO[class_name].from_pretrained(tmp_path, output_loading_info=True)
    assert type(model).__name__ == class_name
    assert not any(report.values())
    ids = tiny_batch().ids
    theirs = model.eval()(ids).logits
    if class_name == "ModernBertForTokenClassification":
        assert model.config.id2label == {0: "original", 1: "replaced"}
        theirs = theirs.diff(dim=-1).squeeze(-1)
    assert_close(theirs, network.logits(ids), atol=1e-5, rtol=0)
    special = model.config
    assert (special.pad_token_id, special.cls_token_id, special.sep_token_id, special.mask_token_id) == (0, 2, 3, 4)


@pytest.mark.parametrize("name", ["discriminator", "generator"])
@pytest.mark.parametrize("body", BODIES)
def test_the_way_back_restores_every_weight(body: str, name: str) -> None:
    source = tiny_objective("electra", body, seed=1).networks()[name]
    target = tiny_objective("electra", body, seed=2).networks()[name]
    load_hf(target, twin(source).state_dict())  # aliases of the tied decoder and buffers included
    for (key, ours), theirs in zip(source.named_parameters(), target.parameters(), strict=True):
        assert_close(ours, theirs, atol=0, rtol=0, msg=key)


def test_the_exports_tensors_are_contiguous_copies_and_the_tied_table_is_there_once() -> None:
    network = tiny_objective("mlm", "electra").networks()["generator"]
    config, state, _ = to_hf(network)
    assert config["tie_word_embeddings"] is True
    assert "generator_lm_head.weight" not in state
    assert all(tensor.is_contiguous() for tensor in state.values())
    before = network.encoder.embeddings.word.weight.clone()
    state["electra.embeddings.word_embeddings.weight"].zero_()
    assert torch.equal(network.encoder.embeddings.word.weight, before)


def test_a_state_that_does_not_fit_is_refused_whole() -> None:
    network = tiny_objective("electra", "electra").networks()["generator"]
    before = {name: p.clone() for name, p in network.named_parameters()}
    _, state, _ = to_hf(network)
    key = "electra.encoder.layer.3.output.dense.bias"
    with pytest.raises(ValueError, match=r"missing \['electra.encoder.layer.3.output.dense.bias'\]"):
        load_hf(network, {k: v + 1 for k, v in state.items() if k != key})
    with pytest.raises(ValueError, match=r"unknown \['more'\]"):
        load_hf(network, state | {"more": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        load_hf(network, {k: v + 1 for k, v in state.items()} | {key: torch.zeros(3)})
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())


def test_a_module_that_transformers_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="no counterpart"):
        to_hf(nn.Linear(2, 2))
