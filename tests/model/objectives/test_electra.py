"""ELECTRA's loss and gradient, against an implementation by transformers' modules and torch's losses."""

import copy

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.testing import assert_close

from model.attention import Groups
from model.config import BODIES, MASK_ID, PAD_ID
from model.hf import to_hf
from model.masking import mask_tokens
from model.objectives.base import Batch, Objective, objective_class
from model.sampling import draw_uniforms
from tests.model.tiny import VOCAB, searched_draws, tiny_batch, tiny_objective, twin, twin_inputs

Config = objective_class("electra").Config


def tied_twins(objective: Objective) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedModel]:
    """Generator and discriminator by transformers, with one embeddings module between them."""
    generator, discriminator = (twin(objective.networks()[name]) for name in ("generator", "discriminator"))
    generator.base_model.embeddings = discriminator.base_model.embeddings
    generator.tie_weights()
    assert generator.get_output_embeddings().weight is discriminator.get_input_embeddings().weight
    return generator, discriminator


def independent_loss(
    generator: transformers.PreTrainedModel, discriminator: transformers.PreTrainedModel, batch: Batch, weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(joint loss, corrupted ids, fake): cross-entropy by index lists, samples by a float64 search."""
    masked = mask_tokens(batch.ids, batch.sample, 0, 0.15, 0.85, 0.0, VOCAB)
    places = [(r, p) for r, row in enumerate(masked.positions.tolist()) for p in row if p >= 0]
    rows, columns = torch.tensor(places).T
    inputs = twin_inputs(batch)
    guesses = generator(**(inputs | {"input_ids": masked.ids})).logits[rows, columns]
    generator_loss = cross_entropy(guesses, batch.ids[rows, columns])
    uniforms = draw_uniforms(0, batch.sample, masked.positions)[masked.chosen]
    corrupted = batch.ids.clone()
    corrupted[rows, columns] = searched_draws(guesses.detach(), uniforms)
    fake = corrupted != batch.ids
    logits = discriminator(**(inputs | {"input_ids": corrupted})).logits
    logits = logits if logits.dim() == 2 else logits[..., 1] - logits[..., 0]
    tokens = batch.ids != PAD_ID
    loss = generator_loss + weight * binary_cross_entropy_with_logits(logits[tokens], fake[tokens].float())
    return loss, corrupted, fake


def gradients(objective: Objective) -> dict[str, dict[str, Tensor]]:
    """Network -> transformers' parameter name -> gradient."""
    held = copy.deepcopy(objective)
    for holder, parameter in zip(held.parameters(), objective.parameters(), strict=True):
        assert parameter.grad is not None
        holder.data = parameter.grad
    return {name: to_hf(network)[1] for name, network in held.networks().items()}


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("body", BODIES)
def test_loss_and_joint_gradient_equal_an_independent_implementation(body: str, padding: bool) -> None:
    objective = tiny_objective("electra", body)
    batch = tiny_batch(padding=padding, segments=body == "electra")
    generator, discriminator = tied_twins(objective)
    expected, _, fake = independent_loss(generator, discriminator, batch, weight=50.0)
    assert int(fake.sum()) > 0
    expected.backward()
    loss, _ = objective(batch, objective.counts(batch))
    loss.backward()
    assert_close(loss, expected, atol=1e-5, rtol=1e-6)
    for name, theirs in (("generator", generator), ("discriminator", discriminator)):
        for key, ours in gradients(objective)[name].items():
            reference = theirs.get_parameter(key).grad
            if key.startswith("classifier."):
                ours, reference = ours[1], reference[1]  # row 0 is no parameter of ours
            if key.endswith(("word_embeddings.weight", "tok_embeddings.weight")):
                ours, reference = ours[1:], reference[1:]  # theirs keeps [PAD]'s row out of the lookup's gradient
            scale = float(reference.abs().max())
            assert_close(ours, reference, atol=1e-5 * max(scale, 1.0), rtol=0, msg=f"{name} {key}")


class Watched(nn.Module):
    """A discriminator that keeps what it reads and answers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, groups: Groups, segments: Tensor | None) -> Tensor:
        self.ids = ids
        self.answer = self.network(ids, groups, segments)
        return self.answer


@pytest.mark.parametrize("body", BODIES)
def test_the_discriminator_reads_samples_at_masked_positions_and_the_original_elsewhere(body: str) -> None:
    objective = tiny_objective("electra", body)
    objective.discriminator = watched = Watched(objective.discriminator)
    batch = tiny_batch(rows=64)
    _, sums = objective(batch, objective.counts(batch))
    masked = mask_tokens(batch.ids, batch.sample, 0, 0.15, 0.85, 0.0, VOCAB)
    at_masked = torch.zeros_like(batch.ids, dtype=torch.bool).scatter(1, masked.positions, True)
    assert int((masked.ids == MASK_ID).sum()) > 100  # the generator reads [MASK]
    assert torch.equal(watched.ids[~at_masked], batch.ids[~at_masked])
    assert int((watched.ids == MASK_ID).sum()) < 20  # and here only where one was sampled
    assert torch.equal(watched.ids[:, 0], batch.ids[:, 0])
    kept = at_masked & (masked.ids == batch.ids)
    assert int((watched.ids[kept] != batch.ids[kept]).sum()) > 0  # kept positions are sampled too
    assert int(sums["generator/masked"]) == int(at_masked.sum())  # and counted in the generator's loss


def test_a_sample_equal_to_the_original_is_original() -> None:
    objective = tiny_objective("electra", "electra")
    with torch.no_grad():
        objective.generator.head.decoder.bias[9] = 1000.0  # always draws 9
    batch = tiny_batch()
    nines = Batch(torch.where(batch.ids > MASK_ID, 9, batch.ids), batch.sample)
    assert int(objective.evaluate(nines)["discriminator/fakes"]) == 0
    others = objective.evaluate(batch)
    right = others["generator/sampled_right"]
    assert others["discriminator/fakes"] == others["generator/masked"] - right


def test_a_sampled_pad_is_a_token_that_others_attend_to() -> None:
    objective = tiny_objective("electra", "electra")
    with torch.no_grad():
        objective.generator.head.decoder.bias[PAD_ID] = 1000.0
    objective.discriminator = watched = Watched(objective.discriminator)
    batch = tiny_batch()
    _, sums = objective(batch, objective.counts(batch))
    assert int((watched.ids == PAD_ID).sum()) == int(sums["generator/masked"])
    assert int(sums["discriminator/tokens"]) == batch.ids.numel()
    theirs = twin(watched.network)
    all_seen = theirs(input_ids=watched.ids, attention_mask=torch.ones_like(watched.ids)).logits
    assert_close(watched.answer, all_seen, atol=1e-5, rtol=0)


def gradient_of(objective: Objective, weight: str) -> dict[str, Tensor]:
    """Gradients when only the generator's or only the discriminator's term counts."""
    batch = tiny_batch()
    totals = objective.counts(batch)
    totals[weight] = torch.tensor(torch.inf, dtype=torch.float64)
    objective.zero_grad()
    objective(batch, totals)[0].backward()
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("body", BODIES)
def test_the_generator_gets_no_gradient_from_the_discriminator(body: str) -> None:
    objective = tiny_objective("electra", body)
    from_discriminator = gradient_of(objective, weight="generator")
    own = [name for name, _ in objective.named_parameters() if name.startswith("generator.")]
    assert own
    assert all(not from_discriminator[name].any() for name in own)
    shared = "discriminator.encoder.embeddings.word.weight"
    assert from_discriminator[shared].any()  # the embeddings learn from both
    assert gradient_of(objective, weight="discriminator")[shared].any()


@pytest.mark.parametrize("body", BODIES)
def test_shared_parameters_appear_once(body: str) -> None:
    objective = tiny_objective("electra", body)
    names = [name for name, _ in objective.named_parameters()]
    assert not [n for n in names if n.startswith("generator.encoder.embeddings") or n.endswith("decoder.weight")]
    assert len({id(p) for p in objective.parameters()}) == len(names)
    tables = 5 if body == "electra" else 2  # word, position, segment, norm's two; word, norm
    assert len([n for n in names if n.startswith("discriminator.encoder.embeddings")]) == tables


def test_the_papers_settings_are_the_defaults() -> None:
    assert (Config().mask_fraction, Config().mask_share, Config().discriminator_weight) == (0.15, 0.85, 50.0)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"mask_fraction": 0.0}, "mask_fraction is 0.0"),
        ({"mask_share": 1.2}, "mask_share is 1.2"),
        ({"discriminator_weight": 0}, "discriminator_weight is 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Config(**setting)
