"""The DeepSpeed engine as the loop sees it: micro-steps whose gradients add up to the global loss's, and an update.

fp32 and bf16 keep fp32 parameters and gradients (bf16 is autocast inside the objective); fp16 is DeepSpeed's fp16 with
its loss scale.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from pydantic import ValidationError
from torch import Tensor

from model.objectives.base import Batch, Objective
from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.training.compiling import prepare
from pipeline.training.engine_config import deepspeed_config, micro_steps, refused_by_deepspeed, zero_stage
from pipeline.training.engine_state import KINDS, MASTER, EngineState, engine_state, read_scaler, write_scaler
from pipeline.training.optimizer import build_optimizer, first_step
from pipeline.training.precision import make_objective
from pipeline.training.ranks import Ranks


@dataclass(frozen=True)
class Update:
    """What became of a step."""

    loss: float
    """What is optimised, of the global batch."""
    left_out: bool
    """Whether the update was left out, because the loss or a gradient was not finite."""


class Engine:
    """An objective under DeepSpeed. Made, read and updated by all ranks together."""

    def __init__(self, config: RunConfig, vocab_size: int, ranks: Ranks, objective: Objective | None = None) -> None:
        """objective: with its first weights; by default drawn from the seed."""
        import deepspeed

        _check_precision(config, ranks.device)
        self.config, self.ranks, self.vocab_size = config, ranks, vocab_size
        self.micro_steps = micro_steps(config, ranks.world)
        self.objective = (objective or make_objective(config, vocab_size)).to(ranks.device)
        self.compiled = prepare(self.objective, config, ranks.device)
        self.shapes = {name: tuple(parameter.shape) for name, parameter in self.objective.named_parameters()}
        optimizer = build_optimizer(config.optimizer, self.objective.named_parameters())
        count = sum(map(math.prod, self.shapes.values()))
        filled = deepspeed_config(config, ranks.world, count, ranks.device.type)
        try:
            self.engine, *_ = deepspeed.initialize(
                model=self.objective, optimizer=optimizer, config=filled, dist_init_required=False
            )
        except ValidationError as error:  # DeepSpeed's own check of its sections
            raise refused_by_deepspeed(error) from None
        # Of stage 0: DeepSpeed's would take the norm a second time, and wait for it.
        self.engine.clip_fp32_gradients = self._clip
        self.state: EngineState = engine_state(self.engine)
        self.state.prime(first_step(config.optimizer, 0))
        self.grad_norm: Tensor | float | None = None

    def micro_step(self, batch: Batch, totals: dict[str, Tensor], weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward and backward of a share of the global loss; after the last one comes `update`.

        Returns the share of the loss and its sums, detached. DeepSpeed averages gradients over ranks: hence the factor.
        A loss that is not finite makes the factor NaN, and by it the gradients: their own reduction tells all ranks.
        """
        self.engine.train()
        loss, sums = self.engine(batch, totals)
        factor = weight * self.ranks.world * self._own_loss_scale() + 0.0 * loss.detach()
        self.engine.backward(loss * factor, scale_wrt_gas=False)
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()
        return loss.detach() * weight, sums

    def update(self, share: Tensor) -> Update:
        """The update from the gradients of all micro-steps, at the rate set before; left out, on all ranks alike, where
        one of them, or the loss, is not finite.

        share: this rank's part of the loss. Waits for the accelerator once, when all is on its way: for the global loss
        and, at stage 0, the gradient's norm. Stages 1 to 3 read their norm before, as DeepSpeed does anyway.
        """
        whole, scale = self._whole_norm(), self._own_loss_scale()
        loss = self.ranks.sum({"loss": share})["loss"]
        found = torch.stack([loss, loss if whole is None else whole.double()])
        before = int(self.engine.skipped_steps)
        if whole is not None:  # DeepSpeed has no such check at stage 0, but torch's fused update knows this sign
            self.engine.optimizer.found_inf = (~found.isfinite().all()).float()
        self.engine.step()
        if whole is not None:
            del self.engine.optimizer.found_inf
        figures = [float(x) for x in found.tolist()]
        spoilt = whole is not None and not all(map(math.isfinite, figures))
        kept = self.engine.get_global_grad_norm()
        self.grad_norm = whole if kept is None else kept / scale
        return Update(figures[0], spoilt or int(self.engine.skipped_steps) > before)

    def set_rate(self, rate: float) -> None:
        """Learning rate of the next update."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate

    def read(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        """(name, whole fp32 tensor) of every parameter, gathered one at a time; kind as in engine_state.KINDS."""
        for name, parameter in zip(self.shapes, self._parameters(), strict=True):
            yield name, self.state.read(parameter, kind)

    def load(self, tensors: dict[str, dict[str, Tensor]], updates: int, scaler: dict[str, float]) -> None:
        """Sets weights and moments, {kind: {name: tensor}}, after `updates` updates."""
        self.state.prime(first_step(self.config.optimizer, updates))
        for kind in KINDS:
            for name, parameter in zip(self.shapes, self._parameters(), strict=True):
                self.state.write(parameter, kind, tensors[kind][name].to(self.ranks.device))
        self._set_compute_weights(tensors[MASTER])
        write_scaler(self.engine, scaler)

    def scaler(self) -> dict[str, float]:
        """State of fp16's loss scale; empty in other precisions."""
        return read_scaler(self.engine)

    @contextmanager
    def evaluated(self) -> Iterator[Objective]:
        """The objective with whole weights and dropout off. At stage 3 a plain copy, for as long as it is used."""
        if zero_stage(self.config) == 3:
            copy = make_objective(self.config, self.vocab_size)
            copy.load_state_dict({name: tensor.cpu() for name, tensor in self.read(MASTER)}, strict=False)
            yield copy.to(self.ranks.device).eval()
        else:
            yield self.objective.eval()
            self.objective.train()

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for _, parameter in self.objective.named_parameters()]

    def _set_compute_weights(self, weights: dict[str, Tensor]) -> None:
        """Copies the masters into the parameters that the networks compute with."""
        import deepspeed

        for name, parameter in zip(self.shapes, self._parameters(), strict=True):
            partitioned = hasattr(parameter, "ds_id")
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=partitioned), torch.no_grad():
                parameter.data.copy_(weights[name])

    def _whole_norm(self) -> Tensor | None:
        """Norm of the averaged gradient before clipping, at stage 0 in fp32, where DeepSpeed does not keep it."""
        if self.engine.optimizer is not self.engine.basic_optimizer:
            return None
        gradients = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
        self._norm = torch.nn.utils.get_total_norm(gradients)
        return self._norm

    def _clip(self) -> None:
        """By the norm that `update` has taken."""
        torch.nn.utils.clip_grads_with_norm_(self._parameters(), self.config.optimizer.clip, self._norm)

    def _own_loss_scale(self) -> float:
        """1; fp16's loss scale at stage 0: there DeepSpeed's update divides by it, but its backward leaves it out."""
        if self.config.train.precision != "fp16" or zero_stage(self.config) != 0:
            return 1.0
        return float(self.engine.optimizer.loss_scale_config.cur_scale)


def _check_precision(config: RunConfig, device: torch.device) -> None:
    from deepspeed.accelerator import get_accelerator

    if config.train.precision == "fp16" and not get_accelerator().is_fp16_supported():
        raise UserError(
            f"train.precision fp16 is not supported by this {device.type}: use bf16 or fp32, which need no loss scale."
        )
