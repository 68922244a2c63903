"""Loss, draws and gradient of the language head: the form for a CPU equals the plain one."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.guesses import read_guesses
from model.paths import plain_forms


def example(kind: torch.dtype, vocab: int = 700) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    guesses = (torch.randn(5, 9, vocab, generator=generator) * 3).to(kind).requires_grad_()
    targets = torch.randint(0, vocab, (5, 9), generator=generator)
    chosen = torch.rand(5, 9, generator=generator) < 0.8
    return guesses, targets, chosen, torch.rand(5, 9, 2, generator=generator)


@pytest.mark.parametrize(("kind", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize("vocab", [5, 256, 700, 1024])
def test_loss_draws_and_gradient_equal_the_plain_form(kind: torch.dtype, near: float, vocab: int) -> None:
    guesses, targets, chosen, uniforms = example(kind, vocab)
    nats, drawn = read_guesses(guesses, targets, chosen, uniforms)
    gradient = torch.autograd.grad(nats * 0.37, guesses)[0]
    with plain_forms():
        expected, same = read_guesses(guesses, targets, chosen, uniforms)
    assert nats.dtype == torch.float32
    assert_close(nats, expected, atol=0, rtol=1e-6)
    assert torch.equal(drawn, same)
    assert not drawn.requires_grad
    assert gradient.dtype == kind
    assert_close(gradient, torch.autograd.grad(expected * 0.37, guesses)[0], atol=near, rtol=0)
    assert bool((gradient[~chosen] == 0).all())


def test_without_uniforms_nothing_is_drawn_and_the_loss_is_the_same() -> None:
    guesses, targets, chosen, uniforms = example(torch.float32)
    nats, drawn = read_guesses(guesses, targets, chosen, None)
    assert_close(nats, read_guesses(guesses, targets, chosen, uniforms)[0])
    assert not drawn.any()


def test_scores_that_are_not_finite_show_in_the_loss() -> None:
    guesses, targets, chosen, uniforms = example(torch.float32)
    broken = guesses.detach().clone()
    broken[0, 0, 3] = torch.nan
    nats, drawn = read_guesses(broken, targets, torch.ones_like(chosen), uniforms)
    assert bool(nats.isnan())
    assert bool(((drawn >= 0) & (drawn < broken.shape[-1])).all())


def test_a_second_backward_pass_is_refused() -> None:
    guesses, targets, chosen, uniforms = example(torch.float32)
    nats, _ = read_guesses(guesses, targets, chosen, uniforms)
    nats.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward"):
        nats.backward()
