"""The paper's optimizer: Adam without bias correction, decoupled decay on matrices only, by torch's own fused AdamW.

The correction is switched off by the step counter alone: bias corrections are 1 - beta ** step, which is exactly 1 once
beta ** step is under half a unit in the last place. `STEADY_STEP` is the largest count that float32 counters hold (one
more rounds back to it), so a counter that starts there stays there. Price: beta2 must stay below 1 - 3e-6.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.base.sections import OptimizerConfig

STEADY_STEP = 2**24
MOMENTS = ("exp_avg", "exp_avg_sq")


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: to matrices, not to biases and LayerNorm (released code, optimization.py)."""
    return parameter.ndim >= 2 and not name.endswith("bias")


def parameter_groups(parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups, decayed and not; each parameter object once, in the order of its names."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in parameters:
        (decayed if decays(name, parameter) else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(config: OptimizerConfig, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.AdamW:
    """AdamW over the parameters' groups, with learning rate 0: the loop sets the rate before each update.

    p -= rate * (m / (sqrt(v) + eps) + decay * p), where m and v are plain running means ("electra") or divided by their
    bias corrections ("adamw"). `prime` sets the state, which decides between the two.
    """
    groups = parameter_groups(parameters, config.weight_decay)
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.eps, fused=True)


def first_step(config: OptimizerConfig, updates: int) -> int:
    """Step counter of the state after `updates` updates."""
    return STEADY_STEP if config.name == "electra" else updates


def prime(optimizer: torch.optim.Optimizer, masters: Iterable[Tensor], step: int) -> None:
    """Gives every master tensor its state: zero moments and the step counter. torch would do so at its first update."""
    for master in masters:
        optimizer.state[master] = {
            "step": torch.tensor(float(step), dtype=torch.float32, device=master.device),
            **{key: torch.zeros_like(master, memory_format=torch.preserve_format).detach() for key in MOMENTS},
        }
