"""The run's objective in its precision. bf16 and fp16 are autocast inside the objective, over the parameters it has."""

import torch

from model.objectives.base import Objective, build_objective
from pipeline.base.config import RunConfig

COMPUTE_DTYPE = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_objective(config: RunConfig, vocab_size: int, precision: str | None = None) -> Objective:
    """The objective with its initial weights (from the seed), on the CPU; precision: by default train.precision."""
    objective = build_objective(config.objective.name, config.model, config.objective, vocab_size, config.seed)
    objective.compute_dtype = COMPUTE_DTYPE[precision or config.train.precision]
    return objective
