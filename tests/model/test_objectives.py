"""One contract for all objectives, in both bodies: shares and sums add up, all parameters learn, exports load."""

import pytest
import torch
from torch.testing import assert_close

from model.config import BODIES
from model.objectives.base import build_objective, objective_class, objective_names
from tests.model.tiny import VOCAB, rows_of, tiny_batch, tiny_model, tiny_objective, twin

GRID = [(name, body) for name in objective_names() for body in BODIES]


def test_the_objectives_are_found_by_file_name() -> None:
    assert {"electra", "mlm"} <= set(objective_names())
    assert "base" not in objective_names()
    with pytest.raises(ValueError, match="'electr' is not known: one of electra"):
        objective_class("electr")


@pytest.mark.parametrize(("name", "body"), GRID)
def test_loss_is_finite_and_every_parameter_learns(name: str, body: str) -> None:
    objective = tiny_objective(name, body)
    batch = tiny_batch(padding=True, documents=True, segments=body == "electra")
    loss, sums = objective(batch, objective.counts(batch))
    assert loss.dtype == torch.float32
    assert loss.dim() == 0
    loss.backward()
    for key, parameter in objective.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key
    assert not any(value.requires_grad for value in sums.values())
    assert_close(objective.metrics(sums, training=True)["loss"], float(loss.detach()), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("cuts", [[3], [1, 2, 5]])
@pytest.mark.parametrize(("name", "body"), GRID)
def test_shares_of_any_split_add_up_to_the_whole(name: str, body: str, cuts: list[int]) -> None:
    objective = tiny_objective(name, body)
    batch = tiny_batch(rows=6, padding=True, documents=True)
    totals = objective.counts(batch)
    whole, whole_sums = objective(batch, totals)
    whole.backward()
    whole_gradient = {key: p.grad.clone() for key, p in objective.named_parameters() if p.grad is not None}
    objective.zero_grad()
    parts = [rows_of(batch, slice(a, b)) for a, b in zip([0, *cuts], [*cuts, 6], strict=True)]
    shares, sums, counts = [], [], []
    for part in parts:
        counts.append(objective.counts(part))
        share, part_sums = objective(part, totals)
        share.backward()
        shares.append(float(share.detach()))
        sums.append(part_sums)
    for key, value in totals.items():
        assert value.dtype == torch.float64
        assert sum(c[key] for c in counts) == value
    assert_close(sum(shares), float(whole.detach()), atol=1e-5, rtol=1e-6)
    for key, value in whole_sums.items():
        assert_close(sum(s[key] for s in sums), value, atol=1e-4, rtol=1e-6)
    for key, parameter in objective.named_parameters():
        assert_close(parameter.grad, whole_gradient[key], atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize(("name", "body"), GRID)
def test_evaluation_adds_up_and_gives_every_figure(name: str, body: str) -> None:
    objective = tiny_objective(name, body, dropout=0.1, attention_dropout=0.1).eval()
    batch = tiny_batch(rows=6, padding=True)
    frequency = torch.arange(VOCAB).double()
    whole = objective.evaluate(batch, frequency)
    halves = [objective.evaluate(rows_of(batch, part), frequency) for part in (slice(0, 2), slice(2, 6))]
    for key, value in whole.items():
        assert not value.requires_grad
        assert_close(halves[0][key] + halves[1][key], value, atol=1e-4, rtol=1e-6)
    figures = objective.metrics(whole, training=False)
    assert {"loss", "generator/loss", "generator/accuracy", "generator/unigram_accuracy"} <= figures.keys()
    assert all(isinstance(value, float) for value in figures.values())
    again = objective.evaluate(batch)  # no dropout, the same masks and samples; no frequencies, no baselines
    assert all(torch.equal(again[key], whole[key]) for key in again)
    assert "generator/unigram_accuracy" not in objective.metrics(again, training=False)


@pytest.mark.parametrize(("name", "body"), GRID)
def test_the_seed_decides_the_weights_and_torchs_state_stays(name: str, body: str) -> None:
    config = objective_class(name).Config()
    torch.manual_seed(1)
    first = build_objective(name, tiny_model(body), config, VOCAB, seed=7)
    torch.manual_seed(2)
    second = build_objective(name, tiny_model(body), config, VOCAB, seed=7)
    other = build_objective(name, tiny_model(body), config, VOCAB, seed=8)
    pairs = list(zip(first.named_parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(p, q) for (_, p), q, _ in pairs)
    assert not torch.equal(pairs[0][0][1], pairs[0][2])
    for (key, p), _, _ in pairs:
        if p.dim() == 1:
            assert torch.equal(p, torch.ones_like(p) if key.endswith("norm.weight") else torch.zeros_like(p)), key
        else:
            assert float(p.detach().abs().max()) <= 0.04  # cut at two standard deviations of 0.02
    large = torch.cat([p.flatten() for (_, p), _, _ in pairs if p.dim() == 2])
    assert abs(float(large.detach().std()) - 0.02 * 0.8796) < 2e-4  # what is left of it after the cut


@pytest.mark.parametrize(("name", "body"), GRID)
def test_the_embedding_tables_may_have_their_own_start(name: str, body: str) -> None:
    model = tiny_model(body, initializer_range=0.05, embedding_initializer_range=0.01)
    objective = build_objective(name, model, objective_class(name).Config(), VOCAB, seed=7)
    most = {key: float(p.detach().abs().max()) for key, p in objective.named_parameters() if p.dim() == 2}
    tables = {key: value for key, value in most.items() if ".embeddings." in key and "projection" not in key}
    assert tables
    assert all(0.01 < value <= 0.02 for value in tables.values()), tables
    assert all(0.05 < value <= 0.1 for key, value in most.items() if key not in tables), most


@pytest.mark.parametrize(("name", "body"), GRID)
def test_the_networks_export(name: str, body: str) -> None:
    for network in tiny_objective(name, body).networks().values():
        twin(network)


@pytest.mark.parametrize("name", objective_names())
def test_an_objective_moves_to_another_type_of_device_with_its_batch(name: str) -> None:
    """The meta device stands for an accelerator: no part may be left behind, and no step may ask for a value."""
    objective = tiny_objective(name, "modernbert").to("meta")
    batch = tiny_batch(documents=True).to("meta")
    loss, sums = objective(batch, objective.counts(batch))
    loss.backward()
    assert loss.device.type == "meta"
    assert {value.device.type for value in sums.values()} == {"meta"}
