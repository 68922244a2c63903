"""The optimizer against a formula written out in float64, and what it decays."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.base.sections import OptimizerConfig
from pipeline.training.optimizer import STEADY_STEP, build_optimizer, decays, first_step, parameter_groups, prime

Array = np.ndarray[Any, np.dtype[Any]]


def module() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 11))
    net[3].weight = net[0].weight  # tied: one parameter
    return net


def formula(
    start: np.ndarray, gradients: np.ndarray, rates: list[float], config: OptimizerConfig, decay: float
) -> np.ndarray:
    """Adam as in BERT's and ELECTRA's released code ("electra"), or as in Kingma and Ba 2015 ("adamw"), in float64."""
    p, m, v = start.astype(np.float64), np.zeros_like(start, np.float64), np.zeros_like(start, np.float64)
    (b1, b2), corrected = config.betas, config.name == "adamw"
    for t, (g, rate) in enumerate(zip(gradients.astype(np.float64), rates, strict=True), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        mean, square = (m / (1 - b1**t), v / (1 - b2**t)) if corrected else (m, v)
        p = p - rate * (mean / (np.sqrt(square) + config.eps) + decay * p)
    return p


@pytest.mark.parametrize("name", ["electra", "adamw"])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.98)])
def test_updates_follow_the_formula(name: str, betas: tuple[float, float]) -> None:
    config = OptimizerConfig(name=name, betas=betas, weight_decay=0.1)
    net = module()
    optimizer = build_optimizer(config, net.named_parameters())
    prime(optimizer, net.parameters(), first_step(config, 0))
    rates = [0.0, 1e-2, 3e-3, 2e-2, 1e-3] * 8
    generator = torch.Generator().manual_seed(1)
    gradients = {n: torch.randn(len(rates), *p.shape, generator=generator) for n, p in net.named_parameters()}
    start = {n: p.detach().clone() for n, p in net.named_parameters()}
    for step, rate in enumerate(rates):
        for n, p in net.named_parameters():
            p.grad = gradients[n][step].clone()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    for n, p in net.named_parameters():
        decay = 0.1 if n in ("0.weight", "1.weight") else 0.0
        expected = formula(start[n].numpy(), gradients[n].numpy(), rates, config, decay)
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=2e-5, atol=2e-6, err_msg=n)


def test_steady_counter_makes_the_bias_correction_exactly_one_and_stays() -> None:
    assert 1.0 - 0.9999**STEADY_STEP == 1.0
    counter = torch.tensor(float(STEADY_STEP))
    assert counter + 1 == counter


def test_matrices_decay_biases_and_norms_do_not_and_tied_parameters_are_one_entry() -> None:
    net = module()
    groups = parameter_groups(net.named_parameters(), 0.5)
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert [p.shape for p in groups[0]["params"]] == [(11, 6), (6, 6)]
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters())) == 6
    assert decays("embedding.weight", torch.zeros(2, 2))
    assert not decays("norm.weight", torch.zeros(2))
