"""What makes a step faster, or smaller, without changing what it computes: torch.compile, CUDA graphs, recomputing.

Compiled kernels are kept on the disk, and a later start takes them from there. Price: a minute or more at the first
step; and gradients come all at once at its end, so that their sums over ranks do not overlap with the backward pass.
"""

import os
from pathlib import Path

import torch

from model.compiled import compile_forward
from model.objectives.base import Objective
from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.training.engine_config import zero_stage

CACHE = "TORCHINDUCTOR_CACHE_DIR"


def prepare(objective: Objective, config: RunConfig, device: torch.device) -> bool:
    """Makes the objective as train.compile and train.recompute have it; whether its forward is compiled now.

    Call it before DeepSpeed takes the objective. UserError at ZeRO stage 3, whose weights come and go by hooks.
    """
    if config.train.recompute:
        objective.recompute()
    wanted, whole = config.train.compile, zero_stage(config) < 3
    if wanted == "graphs" and not whole:
        raise UserError(
            "train.compile graphs does not go with deepspeed.zero_optimization.stage 3, which gathers weights while "
            "the layers run. Take stage 0, 1 or 2, or train.compile auto."
        )
    if wanted == "graphs" and device.type != "cuda":
        raise UserError(f"train.compile graphs needs a GPU, and this is a {device.type}. Take auto.")
    if wanted == "never" or not whole or device.type != "cuda":  # kernels that torch 2.13 made for a CPU have crashed
        return False
    os.environ.setdefault(CACHE, str(kernel_folder()))
    compile_forward(objective, graphs=wanted == "graphs")
    return True


def kernel_folder() -> Path:
    """Where compiled kernels are kept, unless TORCHINDUCTOR_CACHE_DIR says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "electra" / "kernels"
