"""The BERT baseline's loss and gradient, against transformers' own masked language model loss."""

import copy

import pytest
import torch
from torch.testing import assert_close

from model.config import BODIES
from model.hf import to_hf
from model.masking import mask_tokens
from model.objectives.base import objective_class
from tests.model.tiny import VOCAB, tiny_batch, tiny_model, tiny_objective, twin, twin_inputs

Config = objective_class("mlm").Config


@pytest.mark.parametrize("body", BODIES)
def test_loss_and_gradient_equal_transformers(body: str) -> None:
    objective = tiny_objective("mlm", body)
    network = objective.networks()["generator"]
    batch = tiny_batch(padding=True)
    theirs = twin(network)
    masked = mask_tokens(batch.ids, batch.sample, 0, 0.15, 0.8, 0.1, VOCAB)
    labels = torch.full_like(batch.ids, -100)
    for row, places in enumerate(masked.positions.tolist()):
        for place in places:
            if place >= 0:
                labels[row, place] = batch.ids[row, place]
    output = theirs(**(twin_inputs(batch) | {"input_ids": masked.ids}), labels=labels)
    output.loss.backward()
    loss, sums = objective(batch, objective.counts(batch))
    loss.backward()
    assert_close(loss, output.loss, atol=1e-5, rtol=0)
    assert_close(
        objective.metrics(sums, training=True)["generator/loss"], float(output.loss.detach()), atol=1e-5, rtol=0
    )
    held = copy.deepcopy(network)
    for holder, parameter in zip(held.parameters(), network.parameters(), strict=True):
        assert parameter.grad is not None
        holder.data = parameter.grad
    for key, ours in to_hf(held)[1].items():
        reference = theirs.get_parameter(key).grad
        if key.endswith(("word_embeddings.weight", "tok_embeddings.weight")):
            ours, reference = ours[1:], reference[1:]  # theirs keeps [PAD]'s row out of the lookup's gradient
        assert_close(ours, reference, atol=1e-5, rtol=0, msg=key)


def test_the_network_has_the_discriminators_size() -> None:
    config = tiny_objective("mlm", "electra").networks()["generator"].config
    assert (config.hidden_size, config.layers) == (64, 4) == (tiny_model("electra").hidden_size, 4)


def test_berts_settings_are_the_defaults() -> None:
    assert (Config().mask_fraction, Config().mask_share, Config().random_share) == (0.15, 0.8, 0.1)


def test_shares_past_one_are_refused() -> None:
    with pytest.raises(ValueError, match="together at most 1"):
        Config(mask_share=0.95, random_share=0.1)
    with pytest.raises(ValueError, match="mask_fraction is 1"):
        Config(mask_fraction=1)
