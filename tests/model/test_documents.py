"""Documents packed into one sequence do not see each other, nor padding."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.attention import attention_bias, document_groups
from model.config import BODIES, PAD_ID
from tests.model.tiny import VOCAB, tiny_batch, tiny_objective, twin

NETWORKS = [(body, name) for body in BODIES for name in ("generator", "discriminator")]
CUTS = (9, 20)  # documents 0..8, 9..19, 20..31


def documents_of(ids: Tensor) -> Tensor:
    place = torch.arange(ids.shape[1])
    return sum((place >= cut).long() for cut in CUTS).expand(ids.shape)


@pytest.mark.parametrize(("body", "name"), NETWORKS)
def test_one_documents_tokens_do_not_change_anothers_logits(body: str, name: str) -> None:
    network = tiny_objective("electra", body).networks()[name]
    ids = tiny_batch().ids
    documents = documents_of(ids)
    changed = ids.clone()
    middle = documents[0] == 1
    changed[:, middle] = (ids[:, middle] + 50) % (VOCAB - 5) + 5
    before, after = network.logits(ids, documents), network.logits(changed, documents)
    assert_close(before[:, ~middle], after[:, ~middle], atol=0, rtol=0)
    assert not torch.allclose(before[:, middle], after[:, middle])
    assert not torch.allclose(before, network.logits(ids), atol=1e-3)  # without isolation they do matter


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_modernbert_gives_a_packed_document_what_it_gives_it_alone(name: str) -> None:
    network = tiny_objective("electra", "modernbert").networks()[name]
    ids = tiny_batch().ids
    packed = network.logits(ids, documents_of(ids))
    for start, end in ((0, 9), (9, 20), (20, 32)):
        assert_close(packed[:, start:end], network.logits(ids[:, start:end]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_electra_gives_a_packed_document_what_transformers_gives_it_at_its_positions(name: str) -> None:
    network = tiny_objective("electra", "electra").networks()[name]
    theirs = twin(network)
    ids = tiny_batch().ids
    packed = network.logits(ids, documents_of(ids))
    for start, end in ((0, 9), (9, 20), (20, 32)):
        alone = theirs(input_ids=ids[:, start:end], position_ids=torch.arange(start, end)[None]).logits
        assert_close(packed[:, start:end], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("body", "name"), NETWORKS)
def test_padding_changes_nothing(body: str, name: str) -> None:
    network = tiny_objective("electra", body).networks()[name]
    ids = tiny_batch().ids
    padded = torch.nn.functional.pad(ids, (0, 12), value=PAD_ID)
    documents = torch.nn.functional.pad(documents_of(ids), (0, 12), value=2)  # padding may carry any number
    assert_close(network.logits(padded)[:, :32], network.logits(ids), atol=1e-5, rtol=0)
    expected = network.logits(ids, documents_of(ids))
    found = network.logits(padded, documents)
    assert_close(found[:, :32], expected, atol=1e-5, rtol=0)
    assert found.isfinite().all()  # rows of padding too


def test_the_mask_is_left_out_where_nothing_is_forbidden() -> None:
    ids = tiny_batch().ids
    groups = document_groups(ids, None).numbers
    assert attention_bias(groups, None) is None
    assert attention_bias(groups, window=31) is None  # reaches everywhere
    narrow = attention_bias(groups, window=4)
    assert narrow is not None
    place = torch.arange(32)
    assert torch.equal(narrow[0, 0] == 0, (place[:, None] - place).abs() <= 4)
    assert attention_bias(document_groups(ids, documents_of(ids)).numbers, None) is not None
    both = attention_bias(document_groups(ids, documents_of(ids)).numbers, 4)
    assert both is not None
    assert both[0, 0, 9, 8] == -torch.inf  # near, but of another document
    assert both[0, 0, 9, 10] == 0


def test_one_document_is_one_document_whatever_its_number() -> None:
    network = tiny_objective("electra", "electra").networks()["discriminator"]
    ids = tiny_batch().ids
    assert_close(network.logits(ids, torch.full_like(ids, 17)), network.logits(ids))
