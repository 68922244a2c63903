"""Low precision stays near float32, what must be float32 is, and dropout of 0 draws nothing."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from model.config import BODIES
from model.layers import LayerNorm
from model.objectives.base import objective_names
from model.paths import plain_forms
from tests.model.tiny import tiny_batch, tiny_objective

GRID = [(name, body) for name in objective_names() for body in BODIES]


@pytest.mark.parametrize(("name", "body"), GRID)
def test_bfloat16_stays_near_float32(name: str, body: str) -> None:
    objective = tiny_objective(name, body)
    batch = tiny_batch(rows=8, documents=True)
    totals = objective.counts(batch)
    losses, gradients = [], []
    for kind in (None, torch.bfloat16):
        objective.compute_dtype = kind
        objective.zero_grad()
        loss, sums = objective(batch, totals)
        loss.backward()
        assert loss.dtype == torch.float32
        losses.append(objective.metrics(sums, training=True)["generator/loss"])
        gradients.append(objective.get_parameter("generator.head.dense.weight").grad.flatten().clone())
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in objective.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.99


@pytest.mark.parametrize("body", BODIES)
def test_softmax_norms_losses_and_samples_are_float32_under_autocast(
    body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the plain form; a CPU's kernel computes a bf16 softmax in float32 (next test)."""
    objective = tiny_objective("electra", body)
    objective.compute_dtype = torch.bfloat16
    seen: dict[str, set[torch.dtype]] = {"softmax": set(), "norm": set(), "linear": set(), "sample": set()}
    original = Tensor.softmax

    def softmax(self: Tensor, *args: object, **kwargs: object) -> Tensor:
        result = original(self, *args, **kwargs)
        seen["softmax"].add(result.dtype)
        return result

    def draw(log_probabilities: Tensor, uniforms: Tensor) -> Tensor:
        seen["sample"] |= {log_probabilities.dtype, uniforms.dtype}
        return log_probabilities.argmax(-1)

    monkeypatch.setattr(Tensor, "softmax", softmax)
    monkeypatch.setattr("model.guesses.draw_tokens", draw)
    for module in objective.modules():
        kind = "norm" if isinstance(module, LayerNorm) else "linear" if isinstance(module, nn.Linear) else None
        if kind:
            module.register_forward_hook(lambda _m, _i, output, kind=kind: seen[kind].add(output.dtype))
    batch = tiny_batch()
    with plain_forms():
        objective(batch, objective.counts(batch))
    assert seen["linear"] == {torch.bfloat16}
    assert seen["softmax"] == seen["norm"] == seen["sample"] == {torch.float32}


def test_a_bfloat16_softmax_is_the_float32_one_rounded() -> None:
    scores = (torch.randn(50, 130, generator=torch.Generator().manual_seed(0)) * 5).bfloat16()
    assert torch.equal(scores.softmax(-1), scores.float().softmax(-1).bfloat16())


@pytest.mark.parametrize(("name", "body"), GRID)
@pytest.mark.parametrize("documents", [False, True])
def test_the_forms_for_a_cpu_give_the_loss_and_gradients_of_the_plain_ones(
    name: str, body: str, documents: bool
) -> None:
    objective = tiny_objective(name, body)
    batch = tiny_batch(rows=6, padding=True, documents=documents)
    totals, found = objective.counts(batch), []
    for form in (plain_forms, nullcontext):
        objective.zero_grad()
        with form():
            loss, _ = objective(batch, totals)
        loss.backward()
        found.append((loss.detach(), torch.cat([p.grad.flatten() for p in objective.parameters()])))
    assert_close(found[1][0], found[0][0], atol=0, rtol=1e-5)
    assert_close(found[1][1], found[0][1], atol=1e-5 * float(found[0][1].abs().max()), rtol=1e-4)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_in_bfloat16_the_forms_for_a_cpu_err_as_the_plain_ones_do(body: str, name: str) -> None:
    objective = tiny_objective("electra", body)
    network, batch = objective.networks()[name], tiny_batch(rows=6, documents=True)
    found = []
    for kind, form in ((None, plain_forms), (torch.bfloat16, plain_forms), (torch.bfloat16, nullcontext)):
        objective.compute_dtype = kind
        objective.zero_grad()
        with form(), objective.computing(torch.device("cpu")):
            logits = network.logits(batch.ids, batch.documents)
        logits = logits.float()
        (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    plain, by_hand = (float((one - found[0]).norm() / found[0].norm()) for one in found[1:])
    assert by_hand < 1.2 * plain + 1e-3, (plain, by_hand)
    assert by_hand < 0.03


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_norms_with_low_precision_parameters_compute_in_float32(kind: torch.dtype, bias: bool) -> None:
    """DeepSpeed's fp16 keeps the parameters in half precision."""
    norm = LayerNorm(8, bias=bias).to(kind)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)) * 1000
    found = norm(x.to(kind))
    assert found.dtype == torch.float32
    assert_close(found, torch.nn.functional.layer_norm(x.to(kind).float(), (8,)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "body"), GRID)
def test_dropout_of_0_draws_no_random_number_and_above_it_does(name: str, body: str) -> None:
    batch = tiny_batch()
    for p, still in ((0.0, True), (0.1, False)):
        objective = tiny_objective(name, body, dropout=p, attention_dropout=p).train()
        before = torch.get_rng_state()
        objective(batch, objective.counts(batch))
        assert torch.equal(torch.get_rng_state(), before) == still


@pytest.mark.parametrize("body", BODIES)
def test_dropout_is_off_in_evaluation(body: str) -> None:
    objective = tiny_objective("electra", body, dropout=0.5, attention_dropout=0.5)
    network = objective.eval().networks()["discriminator"]
    ids = tiny_batch().ids
    assert torch.equal(network.logits(ids), network.logits(ids))
    network.train()
    assert not torch.equal(network.logits(ids), network.logits(ids))


@pytest.mark.parametrize("window", [None, 3])
def test_the_accelerators_kernel_computes_the_same(window: int | None) -> None:
    """The fused kernel runs on a CPU as well: it must give what the plain products give."""
    from model.attention import attend, attention_bias

    query, key, value = torch.randn(3, 2, 4, 16, 8, generator=torch.Generator().manual_seed(0))
    groups = (torch.arange(16) > 6).long()[None].expand(2, 16)
    bias = attention_bias(groups, window)
    fused = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    assert_close(attend(query, key, value, bias, 0.0), fused, atol=1e-6, rtol=0)
