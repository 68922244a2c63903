"""Products of bfloat16 by float32, for a CPU that has none of its own: they err as the CPU's own would."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from model.config import BODIES
from model.paths import plain_forms
from model.products import GeluLinear, Linear, batched_product
from tests.model.tiny import tiny_batch, tiny_objective

ULP = 2.0**-8


@pytest.fixture(autouse=True)
def no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.paths.multiplies_bfloat16", lambda: False)


def low(x: Tensor) -> Tensor:
    return x.bfloat16().to(x.dtype)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_those_of_rounded_factors(bias: bool, kind: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Linear(40, 70, bias=bias)
    given = torch.randn(3, 5, 40, generator=generator).to(kind).requires_grad_()
    upstream = torch.randn(3, 5, 70, generator=generator).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(given)
    found = torch.autograd.grad(out, [given, *layer.parameters()], upstream)
    x, weight, sent = given.detach().bfloat16().double(), low(layer.weight.detach()).double(), upstream.double()
    expected = x @ weight.t()
    if layer.bias is not None:
        expected += low(layer.bias.detach()).double()
    assert out.dtype == torch.bfloat16
    assert_close(out.double(), expected, atol=1e-5, rtol=ULP)
    assert found[0].dtype == kind
    assert_close(found[0].double(), sent @ weight, atol=1e-4, rtol=ULP)
    assert found[1].dtype == torch.float32
    assert_close(found[1].double(), sent.flatten(0, 1).t() @ x.flatten(0, 1), atol=1e-5, rtol=1e-5)
    if bias:
        assert_close(found[2].double(), sent.sum((0, 1)), atol=1e-5, rtol=1e-5)


def test_it_is_the_module_of_torch_where_the_form_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Linear(8, 9), torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    usual = nn.Linear(8, 9)
    usual.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), usual(x))
    with torch.autocast("cpu", torch.bfloat16):
        expected = usual(x)
        with plain_forms():
            assert torch.equal(layer(x), expected)
        monkeypatch.setattr("model.paths.multiplies_bfloat16", lambda: True)
        assert torch.equal(layer(x), expected)


def test_frozen_parameters_and_inputs_get_no_gradient() -> None:
    layer, x = Linear(8, 9), torch.randn(4, 8)
    layer.weight.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).float().sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


@pytest.mark.parametrize("bias", [True, False])
def test_gelu_is_computed_again_and_the_gradients_are_the_plain_ones(bias: bool) -> None:
    layer = GeluLinear(64, 8, bias=bias)
    x = torch.randn(5, 6, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found, kept = [], []
    for form in (plain_forms, nullcontext):
        saved: dict[int, int] = {}
        with form(), torch.autograd.graph.saved_tensors_hooks(partial(note, saved), lambda t: t):
            out = layer(x)
        found.append((out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])))
        kept.append(sum(saved.values()))
    assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)
    assert kept[0] - kept[1] == x.numel()


def note(saved: dict[int, int], tensor: Tensor) -> Tensor:
    saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor


@pytest.mark.parametrize("into", [False, True])
def test_batches_of_products(into: bool) -> None:
    a, b = (torch.randn(3, 20, 20, generator=torch.Generator().manual_seed(n)).bfloat16() for n in (0, 1))
    out = torch.empty(3, 20, 20, dtype=torch.bfloat16) if into else None
    found = batched_product(a, b.mT, 0.37, out)
    assert out is None or found.data_ptr() == out.data_ptr()
    assert found.dtype == torch.bfloat16
    assert_close(found.double(), 0.37 * (a.double() @ b.double().mT), atol=1e-5, rtol=ULP)


@pytest.mark.parametrize("body", BODIES)
def test_a_step_errs_no_more_than_with_the_cpus_own_products(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, batch = tiny_objective("electra", body), tiny_batch(rows=6, documents=True)
    totals, own = objective.counts(batch), {False: "float32", True: "own"}
    found: dict[str, tuple[float, Tensor]] = {}
    monkeypatch.setattr("model.objectives.electra.draw_uniforms", fixed_draws())  # the same samples in all
    for name, kind, native in (("exact", None, True), *((own[n], torch.bfloat16, n) for n in own)):
        monkeypatch.setattr("model.paths.multiplies_bfloat16", lambda native=native: native)
        objective.compute_dtype = kind
        objective.zero_grad()
        loss, _ = objective(batch, totals)
        loss.backward()
        found[name] = float(loss.detach()), torch.cat([p.grad.flatten() for p in objective.parameters()])
    errors = {name: float((found[name][1] - found["exact"][1]).norm() / found["exact"][1].norm()) for name in found}
    assert errors["float32"] < 1.2 * errors["own"] + 1e-3, errors
    assert found["float32"][0] == pytest.approx(found["own"][0], rel=1e-2)


def fixed_draws() -> Callable[..., Tensor]:
    """Draws that rounding does not move: uniform numbers that fall on the first token of a block."""
    return lambda seed, sample, positions: torch.zeros(*positions.shape, 2)
