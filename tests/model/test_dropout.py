"""Dropout on a CPU: the rate is exact, a seed fixes the masks, what is kept is scaled, and gradients follow."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.dropout import Dropout, keep_mask, kept
from model.paths import plain_forms


@pytest.mark.parametrize("p", [0.001, 0.1, 0.37, 0.5, 0.999])
def test_an_element_is_dropped_with_probability_p(p: float) -> None:
    """Far closer to p than to a multiple of 1/256: calls differ, their mean does not."""
    torch.manual_seed(0)
    calls, size = 4000, 2048
    dropped = sum(int((keep_mask(size, p) == 0).sum()) for _ in range(calls)) / (calls * size)
    within = (p * (1 - p) / size + 1 / 512**2) / calls  # variance of the mean: elements, and the calls' rates
    assert abs(dropped - p) < 5 * within**0.5


def test_a_call_drops_at_a_multiple_of_1_256_next_to_p() -> None:
    torch.manual_seed(0)
    found = torch.tensor([float((keep_mask(1 << 20, 0.1) == 0).float().mean()) for _ in range(20)]) * 256
    assert_close(found, found.round(), atol=0.3, rtol=0)
    assert set(found.round().tolist()) == {25.0, 26.0}


@pytest.mark.parametrize(("p", "whole"), [(1e-12, -1), (1 - 1e-12, 0)])
def test_rates_at_the_ends_keep_or_drop_nearly_everything(p: float, whole: int) -> None:
    assert bool((keep_mask(1000, p) == whole).all())


def test_neighbours_are_independent() -> None:
    torch.manual_seed(1)
    mask = (keep_mask(1 << 20, 0.25) == 0).double() - 0.25
    for distance in (1, 2, 7, 8, 9, 64, 1024):
        correlation = float((mask[distance:] * mask[:-distance]).mean()) / (0.25 * 0.75)
        assert abs(correlation) < 5 / 1024


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1001])
def test_a_seed_fixes_the_mask(count: int) -> None:
    def draw() -> Tensor:
        torch.manual_seed(3)
        return keep_mask(count, 0.3)

    assert draw().shape == (count,)
    assert torch.equal(draw(), draw())
    assert not torch.equal(keep_mask(1000, 0.5), keep_mask(1000, 0.5))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_what_is_kept_is_scaled_and_the_gradient_too(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(33, 17, dtype=kind).requires_grad_()
    found = Dropout(0.4)(x)
    found.backward(torch.ones_like(found))
    assert found.dtype == kind
    assert x.grad is not None
    there = x.grad != 0
    assert 0.4 < float(there.float().mean()) < 0.8
    assert_close(x.grad[there], torch.full_like(x.grad[there], 1 / 0.6))
    assert_close(found, (x * there / 0.6).to(kind))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_dropped_branch_is_added_as_by_hand(kind: torch.dtype) -> None:
    x, upstream = torch.randn(2, 5, 8, 3, generator=torch.Generator().manual_seed(0))
    branch = torch.randn(5, 8, 3).to(kind).requires_grad_()
    x.requires_grad_()
    torch.manual_seed(7)
    found = Dropout(0.3).added(x, branch)
    found.backward(upstream)
    torch.manual_seed(7)
    keep = keep_mask(branch.numel(), 0.3).view(branch.shape) != 0
    assert_close(found, x + branch.float() * keep / 0.7, atol=1e-6, rtol=0)
    assert_close(x.grad, upstream, atol=0, rtol=0)
    assert_close(branch.grad, (upstream * keep / 0.7).to(kind))


def test_nothing_is_dropped_in_evaluation_or_at_rate_0() -> None:
    x = torch.randn(4, 4)
    for module in (Dropout(0.5).eval(), Dropout(0.0)):
        assert torch.equal(module(x), x)
        assert torch.equal(module.added(x, x), 2 * x)


def test_strided_inputs_are_dropped_in_their_own_order() -> None:
    mask = torch.tensor([-1, 0, -1, -1, -1, 0], dtype=torch.int8)
    x = torch.arange(1.0, 7.0).view(3, 2).t()
    assert torch.equal(kept(x, mask), x * mask.view(2, 3).ne(0))


def test_the_plain_form_is_torchs_own() -> None:
    x = torch.randn(64)
    torch.manual_seed(5)
    with plain_forms():
        found = Dropout(0.5)(x)
    torch.manual_seed(5)
    assert torch.equal(found, torch.nn.functional.dropout(x, 0.5))
