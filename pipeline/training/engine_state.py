"""fp32 master weights and Adam's moments of a DeepSpeed engine, one parameter at a time, at any ZeRO stage.

The only place that touches DeepSpeed's private parts. What is done differently from its public safe_get_* / safe_set_*:
stage 0 keeps whole tensors and has no such functions; at stages 1 and 2 states are linked to parameters after the first
parameter group's first step only, so they are linked here again; at stage 3 a partition is padded (a one-element
parameter on two ranks), so the local part is set.
"""

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.training.optimizer import MOMENTS, prime

MASTER = "weights"
KINDS = (MASTER, *MOMENTS)
SCALER_FIELDS = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class EngineState(Protocol):
    """Reads and writes whole fp32 tensors of a kind in KINDS. Collective: every rank calls, in the same order."""

    def prime(self, step: int) -> None:
        """Creates zero moments and step counters, so that they can be read and written before any update."""

    def read(self, parameter: nn.Parameter, kind: str) -> Tensor:
        """The whole tensor, in the parameter's shape, on the accelerator."""

    def write(self, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
        """Sets this rank's part from the whole tensor."""


def engine_state(engine: Any) -> EngineState:
    """The access that fits the engine's ZeRO stage."""
    stage = int(engine.zero_optimization_stage())
    return Whole(engine) if stage == 0 else Partitioned(engine) if stage == 3 else Flat(engine)


class Whole:
    """Stage 0: every rank has everything. Under fp16 the masters are copies, beside the half-precision parameters."""

    def __init__(self, engine: Any) -> None:
        self.optimizer = engine.basic_optimizer
        wrapper = engine.optimizer
        if wrapper is self.optimizer:
            parameters = masters = [p for group in self.optimizer.param_groups for p in group["params"]]
        else:
            parameters = [p for group in wrapper.fp16_groups for p in group]
            masters = [p for group in wrapper.fp32_groups for p in group]
        self.masters = {id(parameter): master for parameter, master in zip(parameters, masters, strict=True)}

    def prime(self, step: int) -> None:
        prime(self.optimizer, self.masters.values(), step)

    def read(self, parameter: nn.Parameter, kind: str) -> Tensor:
        return self._tensor(parameter, kind).detach()

    def write(self, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
        with torch.no_grad():
            self._tensor(parameter, kind).copy_(value)

    def _tensor(self, parameter: nn.Parameter, kind: str) -> Tensor:
        master = self.masters[id(parameter)]
        tensor: Tensor = master if kind == MASTER else self.optimizer.state[master][kind]
        return tensor


class Flat:
    """Stages 1 and 2: each parameter group is one flat tensor, cut over the ranks."""

    def __init__(self, engine: Any) -> None:
        self.zero = engine.optimizer

    def prime(self, step: int) -> None:
        prime(self.zero.optimizer, self.zero.single_partition_of_fp32_groups, step)
        self.zero._hp_optimizer_states_linked = False
        self.zero._lazy_init_hp_params_optimizer_state()

    def read(self, parameter: nn.Parameter, kind: str) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if kind == MASTER:
            return safe_get_full_fp32_param(parameter)
        return safe_get_full_optimizer_state(parameter, kind)

    def write(self, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if kind == MASTER:
            safe_set_full_fp32_param(parameter, value)
        else:
            safe_set_full_optimizer_state(parameter, value, kind)


class Partitioned:
    """Stage 3: each parameter is cut over the ranks, padded to equal parts."""

    def __init__(self, engine: Any) -> None:
        self.zero = engine.optimizer

    def prime(self, step: int) -> None:
        prime(self.zero.optimizer, self.zero.fp32_partitioned_groups_flat, step)

    def read(self, parameter: nn.Parameter, kind: str) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if kind == MASTER:
            return safe_get_full_fp32_param(parameter)
        return safe_get_full_optimizer_state(parameter, kind)

    def write(self, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
        whole = torch.zeros(size * dist.get_world_size(), dtype=torch.float32, device=value.device)
        whole[: value.numel()] = value.reshape(-1)
        part = whole.narrow(0, size * dist.get_rank(), size)
        if kind == MASTER:
            safe_set_local_fp32_param(parameter, part)
        else:
            safe_set_local_optimizer_state(parameter, part, kind)


def read_scaler(engine: Any) -> dict[str, float]:
    """State of fp16's loss scale; empty where there is none."""
    scaler = _scaler(engine)
    return {name: getattr(scaler, name) for name in SCALER_FIELDS if hasattr(scaler, name)}


def write_scaler(engine: Any, state: dict[str, float]) -> None:
    """Sets what `read_scaler` gave."""
    scaler = _scaler(engine)
    for name, value in state.items():
        if hasattr(scaler, name):
            setattr(scaler, name, value)


def _scaler(engine: Any) -> Any:
    if not engine.fp16_enabled():
        return None
    return getattr(engine.optimizer, "loss_scaler", None) or engine.optimizer.loss_scale_config
