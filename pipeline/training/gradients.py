"""Squares of the gradients that lie on this rank, between the last backward and the update; and of state and update.

Private parts of DeepSpeed, as in engine_state. Promise: sums over the ranks are those of the whole tensors. Price: a
pass over this rank's gradients and state, at steps that are looked at only.
"""

import math

import torch
from torch import Tensor, nn

from pipeline.base.sections import OptimizerConfig
from pipeline.training.engine import Engine
from pipeline.training.engine_local import local_parts
from pipeline.training.engine_state import MASTER, Partitioned, Whole
from pipeline.training.optimizer import MOMENTS, decays

SUMS = ("weight", "sum", "update", "squared_mean", "mean_square")


def gradient_squares(engine: Engine) -> Tensor:
    """(parameters,) float64: this rank's part of each squared norm, before clipping, the loss scale taken off."""
    scale = engine.scaler().get("cur_scale", 1.0)
    found = torch.zeros(len(engine.shapes), dtype=torch.float64, device=engine.ranks.device)
    for place, parameter in enumerate(engine.objective.parameters()):
        gradient = _local(engine, parameter)
        if gradient is not None:
            found[place] = (gradient.detach().double() / scale).square().sum()
    return found / engine.ranks.world if isinstance(engine.state, Whole) else found


def _local(engine: Engine, parameter: nn.Parameter) -> Tensor | None:
    if isinstance(engine.state, Whole):
        return parameter.grad  # of all ranks, on every rank
    if isinstance(engine.state, Partitioned):
        from deepspeed.utils import safe_get_local_grad

        part: Tensor = safe_get_local_grad(parameter)
        return part
    linked = parameter._hp_mapping  # type: ignore[attr-defined]
    if linked is None:
        return None
    found: Tensor = linked.get_lp_grad_fragment(parameter._index_in_param_group)  # type: ignore[attr-defined]
    return found


def state_sums(engine: Engine, rate: float, updates: int) -> dict[str, Tensor]:
    """SUMS, (parameters,) float64 each: this rank's parts of sums over weights, moments and the last update.

    weight, update: squares; sum: the weights'; squared_mean: squares of the first moment; mean_square: the second.
    updates: how many were applied, the last one included.
    """
    config, places = engine.config.optimizer, {name: place for place, name in enumerate(engine.shapes)}
    found = torch.zeros(len(SUMS), len(places), dtype=torch.float64, device=engine.ranks.device)
    kinds = (local_parts(engine, kind) for kind in (MASTER, *MOMENTS))
    shapes = engine.shapes
    for weight, mean, square in zip(*kinds, strict=True):
        w, m, v = (part.values.double() for part in (weight, mean, square))
        decay = config.weight_decay if decays(weight.name, torch.empty(shapes[weight.name], device="meta")) else 0.0
        update = rate * (adam_direction(m, v, config, updates) + decay * w)
        sums = (w.square().sum(), w.sum(), update.square().sum(), m.square().sum(), v.sum())
        found[:, places[weight.name]] += torch.stack(sums)
    return dict(zip(SUMS, found, strict=True))


def adam_direction(mean: Tensor, square: Tensor, config: OptimizerConfig, updates: int) -> Tensor:
    """m / (sqrt(v) + eps), the moments divided by their bias corrections where the optimizer does so."""
    first, second = (1.0, 1.0) if config.name == "electra" else (1 - b ** max(updates, 1) for b in config.betas)
    return (mean / first) / ((square / second).sqrt() + config.eps)


def noise_scale(moments: tuple[float, float], config: OptimizerConfig, updates: int, batch: int) -> float | None:
    """Batch size, in sequences, at which a gradient's noise is as large as the gradient: tr(S) / |G|^2 (McCandlish et
    al. 2018, "An Empirical Model of Large-Batch Training", section 2.2), from Adam's own moments.

    moments: the sum of the squares of the first, and the sum of the second. Over steps whose gradients have mean G and
    summed variance T = tr(S) / batch: E sum(v) = |G|^2 + T, and E |m|^2 = |G|^2 + T * (1 - beta1) / (1 + beta1), the
    variance of a running mean; both are corrected for their start at 0. Approximations: the mean is steady over the
    moments' memory, and clipping scales all steps alike. None before 2 / (1 - beta1) updates, and where the noise
    leaves no gradient to be seen.
    """
    first, second = config.betas
    if updates < 2 / (1 - first):
        return None
    share = (1 - first) / (1 + first)
    m = moments[0] / (1 - first**updates) ** 2
    v = moments[1] / (1 - second**updates)
    variance = (v - m) / (1 - share)
    squared = m - share * variance
    return batch * variance / squared if squared > 0 and variance > 0 and math.isfinite(variance) else None
