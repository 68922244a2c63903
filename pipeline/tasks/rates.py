"""Learning rates of fine-tuning: lower for lower layers, and over the steps a linear rise and a linear fall."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from pipeline.base.task_sections import FinetuneConfig
from pipeline.training.optimizer import decays

_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")


def layer_powers(model: nn.Module, prefix: str, top: int) -> Iterator[tuple[str, int]]:
    """(parameter name, power of the decay) for a transformers model whose body is the attribute `prefix` ("": itself).

    The head, and a pooler, have power 0; the top layer (and a last LayerNorm) has `top`, each layer below one more, the
    embeddings one more than the lowest layer. ELECTRA's paper (Clark et al. 2020, appendix B) tells of layer-wise decay
    with one factor a layer: top = 1. The released code (run_finetuning.py, optimization.py) counts from the task's own
    layer two above the last, so there the top layer has power 2 and the embeddings layers + 2: top = 2.
    """
    names = [name for name, _ in model.named_parameters()]
    layers = 1 + max((int(found[1]) for name in names if (found := _LAYER.search(name))), default=-1)
    body = prefix and f"{prefix}."
    for name in names:
        layer = _LAYER.search(name)
        if not name.startswith(body) or name.startswith(f"{body}pooler."):
            yield name, 0
        elif layer is not None:
            yield name, layers - 1 - int(layer[1]) + top
        elif "embeddings" in name:
            yield name, layers + top
        else:
            yield name, top


def peaks(settings: FinetuneConfig) -> tuple[float, float]:
    """finetune.lr and finetune.layer_decay of settled settings (recipe.py)."""
    assert settings.lr is not None
    assert settings.layer_decay is not None
    return settings.lr, settings.layer_decay


def parameter_groups(
    model: nn.Module, powers: Iterable[tuple[str, int]], settings: FinetuneConfig
) -> list[dict[str, Any]]:
    """Optimizer groups, one for each (rate, decayed or not): params, names, peak (the rate), weight_decay."""
    lr, decay = peaks(settings)
    parameters = dict(model.named_parameters())
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, power in powers:
        decayed = decays(name, parameters[name])
        peak = lr * decay**power
        new = {"params": [], "names": [], "peak": peak, "lr": peak}
        new["weight_decay"] = settings.weight_decay if decayed else 0.0
        group = groups.setdefault((power, decayed), new)
        group["params"].append(parameters[name])
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]


def rate_factor(update: int, updates: int, warmup_fraction: float) -> float:
    """Share of the peak rate at update number `update` (from 0) of `updates`: linear rise, then linear fall to 0.

    No update has rate 0: the first has 1 / warm-up, the last 1 / (updates - warm-up).
    """
    warmup = round(updates * warmup_fraction)
    if update < warmup:
        return (update + 1) / warmup
    return (updates - update) / (updates - warmup)
