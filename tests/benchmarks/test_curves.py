"""The side by side training computes what it says: alike runs are alike, and with dropout the masks are the same."""

import pytest
import torch

from benchmarks.curves import WIDTHS, apart, batches, train


@pytest.mark.parametrize("body", list(WIDTHS))
@pytest.mark.parametrize("p", [0.0, 0.1])
def test_both_forms_train_alike(body: str, p: float) -> None:
    plain, cpu = (train(variant, body, "fp32", p, 3) for variant in ("plain", "cpu"))
    for name, losses in plain.items():
        assert apart(losses, cpu[name])[0] < 1e-5


def test_dropout_changes_the_losses() -> None:
    with_dropout, without = (train("cpu", "electra", "fp32", p, 2)["generator"] for p in (0.3, 0.0))
    assert not torch.equal(with_dropout, without)


def test_curves_that_are_no_numbers_are_infinitely_far_apart() -> None:
    assert apart(torch.ones(30), torch.full((30,), torch.nan)) == (float("inf"), float("inf"))


def test_packed_documents_cover_rows() -> None:
    (batch,) = batches(1, packed=True)
    assert batch.documents is not None
    assert bool((batch.documents.diff(dim=1) >= 0).all())
    assert int(batch.documents.max()) >= 1
