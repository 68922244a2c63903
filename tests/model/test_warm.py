"""Weights from others': by name, tables by rows, the rest left and listed."""

import pytest
import torch

from model.hf import own_form, to_hf, views_of
from model.warm import fill, position_rows
from tests.model.tiny import VOCAB, tiny_objective


def test_positions_are_kept_cut_or_copied_in_order() -> None:
    assert position_rows(have=4, trained=4, wanted=4, needed=4) == [0, 1, 2, 3]
    assert position_rows(have=4, trained=4, wanted=10, needed=10) == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert position_rows(have=8, trained=3, wanted=8, needed=8) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert position_rows(have=8, trained=3, wanted=8, needed=3) == list(range(8)), "untrained rows are not needed"
    assert position_rows(have=8, trained=8, wanted=5, needed=5) == list(range(5))


@pytest.mark.parametrize("body", ["electra", "modernbert"])
def test_a_whole_state(body: str) -> None:
    theirs, ours = tiny_objective("electra", body, seed=1), tiny_objective("electra", body, seed=2)
    for name, network in ours.networks().items():
        _, state, _ = to_hf(theirs.networks()[name])
        filled = fill(views_of(network), own_form(network, state), None, None)
        assert (filled.missing, filled.unused) == ([], [])
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-7)


def test_rows_positions_and_what_is_missing() -> None:
    theirs, ours = tiny_objective("mlm", "electra", seed=1), tiny_objective("mlm", "electra", seed=2)
    network = ours.networks()["generator"]
    state = to_hf(theirs.networks()["generator"])[1]
    before = {name: view.clone() for name, view in views_of(network).items()}
    words, bias = "electra.embeddings.word_embeddings.weight", "generator_lm_head.bias"
    places, segments = (
        "electra.embeddings.position_embeddings.weight",
        "electra.embeddings.token_type_embeddings.weight",
    )
    del state["generator_predictions.dense.bias"]
    state["more"] = torch.zeros(1)
    state[segments] = state[segments][:1]
    rows = [7, -1, 3, VOCAB + 2, *range(4, VOCAB)]
    filled = fill(views_of(network), state, rows, [n % 5 for n in range(64)])
    after = views_of(network)
    assert (filled.missing, filled.unused) == (["generator_predictions.dense.bias"], ["more"])
    for name in (words, bias):
        assert torch.equal(after[name][[0, 2, 4]], state[name][[7, 3, 4]])
        assert torch.equal(after[name][[1, 3]], before[name][[1, 3]])
    assert torch.equal(after[places][5:10], state[places][:5])
    assert torch.equal(after[segments], torch.cat([state[segments], before[segments][1:]]))


def test_nothing_is_written_where_a_shape_differs() -> None:
    network = tiny_objective("mlm", "electra", seed=2).networks()["generator"]
    before = {name: view.clone() for name, view in views_of(network).items()}
    state = {name: value + 1 for name, value in before.items()}
    state["electra.encoder.layer.3.output.dense.weight"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"layer.3.output.dense.weight has shape \(3, 3\)"):
        fill(views_of(network), state, None, None)
    assert all(torch.equal(before[name], view) for name, view in views_of(network).items())
