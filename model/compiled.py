"""An objective whose forward pass is compiled as a whole, and with it the backward pass that follows from it.

Promise: the same loss and gradients up to rounding. Evaluation is not compiled. Price: one set of kernels, and a minute
or more to make it, for each shape of a batch; hooks on modules within are passed by.
"""

from typing import Any

import torch
from torch import Tensor

from model.measures import Sums
from model.objectives.base import Batch, Objective


def compile_forward(objective: Objective, graphs: bool = False, **options: Any) -> None:
    """Compiles the objective's forward. graphs: and records it and the backward as CUDA graphs, one launch each.

    options: of torch.compile.
    """
    mode = "reduce-overhead" if graphs else None
    compiled = torch.compile(objective.forward, dynamic=False, mode=mode, **options)
    if not graphs:
        objective.forward = compiled  # type: ignore[method-assign]
        return

    def forward(batch: Batch, totals: Sums) -> tuple[Tensor, Sums]:
        torch.compiler.cudagraph_mark_step_begin()  # what the last call gave is used up
        found: tuple[Tensor, Sums] = compiled(batch, totals)
        return found

    objective.forward = forward  # type: ignore[method-assign]
    for parameter in objective.parameters():
        parameter.register_hook(torch.clone)  # a graph writes its gradients to the same place again
