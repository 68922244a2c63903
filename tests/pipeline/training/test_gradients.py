"""The noise scale against what is known of drawn gradients."""

import pytest
import torch

from pipeline.base.sections import OptimizerConfig
from pipeline.training.gradients import noise_scale


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_the_noise_scale_of_drawn_gradients(noise: float) -> None:
    config, generator = OptimizerConfig(betas=(0.9, 0.98)), torch.Generator().manual_seed(0)
    batch, updates = 16, 300
    mean = torch.randn(20_000, generator=generator, dtype=torch.float64)
    m, v = torch.zeros_like(mean), torch.zeros_like(mean)
    for _ in range(updates):
        gradient = mean + noise * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        m, v = 0.9 * m + 0.1 * gradient, 0.98 * v + 0.02 * gradient.square()
    found = noise_scale((float(m.square().sum()), float(v.sum())), config, updates, batch)
    # A gradient of `batch` sequences has the variance noise ** 2, one of a single sequence `batch` times that.
    assert found == pytest.approx(batch * noise**2, rel=0.05)


def test_too_early_and_nothing_but_noise() -> None:
    config = OptimizerConfig(betas=(0.9, 0.98))
    assert noise_scale((1.0, 2.0), config, 5, 16) is None
    assert noise_scale((0.01, 2.0), config, 500, 16) is None
