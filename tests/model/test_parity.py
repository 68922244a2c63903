"""Logits and losses equal transformers' with the same weights, to 1e-5 in float32, padding and segments included."""

import pytest
import torch
from torch.testing import assert_close

from model.attention import document_groups
from model.config import BODIES, PAD_ID, GeneratorConfig
from tests.model.tiny import VOCAB, tiny_batch, tiny_objective, twin, twin_inputs

CLOSE = {"atol": 1e-5, "rtol": 0}
SHAPES = {
    "electra: narrow embedding, narrow generator": ("electra", {}),
    "electra: one width": ("electra", {"embedding_size": None, "generator": GeneratorConfig(size=1.0)}),
    "electra: generator as narrow as the embedding": ("electra", {"generator": GeneratorConfig(size=0.75, heads=3)}),
    "modernbert": ("modernbert", {}),
    "modernbert: odd window, all sizes its own": (
        "modernbert",
        {"local_window": 7, "global_every": 2, "generator": GeneratorConfig(layers=3, heads=2, ffn_size=40)},
    ),
    "modernbert: other angles": ("modernbert", {"rope_theta": 500.0, "rope_theta_local": 50.0, "layers": 5}),
}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_and_losses_equal_transformers(shape: str, padding: bool, attention: str) -> None:
    body, changes = SHAPES[shape]
    objective = tiny_objective("electra", body, **changes)
    batch = tiny_batch(padding=padding, segments=body == "electra")
    tokens = batch.ids != PAD_ID
    labels = torch.randint(0, VOCAB, batch.ids.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for name, network in objective.networks().items():
            theirs = twin(network, attention)
            ours = network.logits(batch.ids, segments=batch.segments)
            target = labels if name == "generator" else labels % 2
            output = theirs(**twin_inputs(batch), labels=target.masked_fill(~tokens, -100))
            logits = output.logits
            if name == "discriminator" and body == "modernbert":
                assert (logits[..., 0] == 0).all()
                logits = logits[..., 1]
            assert_close(ours[tokens], logits[tokens], **CLOSE)
            assert float(ours[tokens].std()) > 0.1  # not equal for want of anything to differ
            if name == "generator":
                loss = torch.nn.functional.cross_entropy(ours[tokens], target[tokens])
            else:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(ours[tokens], target[tokens].float())
            assert_close(loss, output.loss, **CLOSE)


def test_segments_matter_and_none_means_type_0() -> None:
    network = tiny_objective("electra", "electra").networks()["discriminator"]
    batch = tiny_batch(segments=True)
    assert not torch.allclose(network.logits(batch.ids), network.logits(batch.ids, segments=batch.segments))
    assert_close(network.logits(batch.ids), network.logits(batch.ids, segments=torch.zeros_like(batch.ids)))


def test_modernbert_refuses_segments() -> None:
    network = tiny_objective("electra", "modernbert").networks()["discriminator"]
    batch = tiny_batch(segments=True)
    with pytest.raises(ValueError, match="no token types"):
        network.logits(batch.ids, segments=batch.segments)


@pytest.mark.parametrize("body", BODIES)
def test_a_sequence_past_max_positions_is_refused(body: str) -> None:
    network = tiny_objective("electra", body).networks()["generator"]
    with pytest.raises(ValueError, match="65 tokens, but max_positions is 64"):
        network.logits(tiny_batch(seq=65).ids)


@pytest.mark.parametrize("body", BODIES)
def test_the_head_at_masked_positions_gives_the_full_logits_there(body: str) -> None:
    network = tiny_objective("electra", body).networks()["generator"]
    ids = tiny_batch().ids
    positions = torch.tensor([[3, 1], [5, -1], [30, 2], [9, 8]])
    at_masked = network(ids, document_groups(ids, None), None, positions)
    assert at_masked.shape == (4, 2, VOCAB)
    assert_close(at_masked[0], network.logits(ids)[0, [3, 1]], **CLOSE)
