"""State of a fine-tuning that is under way, beside its result: a killed one goes on from there, bit for bit.

Promise: a state is whole (its digest is in state.json, which is written last) and of the same settings and inputs, or
it counts as none. Price: weights, best weights and two moments, about five times the weights' bytes, for each save.
"""

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.files import complete_file, read_json, sha256_file, write_json
from pipeline.base.log import get_logger

STATE = "state.json"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class WorkFolder:
    """`.NAME.work` beside the folder NAME; `key` says of what settings and inputs the state is."""

    def __init__(self, target: Path, key: dict[str, Any]) -> None:
        self.path, self.key = target.parent / f".{target.name}.work", key

    def save(
        self, outcome: dict[str, Any], model: torch.nn.Module, best: dict[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        """Replaces the state. Raises UserError for a full disk; the last state stays."""
        self.path.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        for name, parameter in _named(optimizer):
            if parameter in optimizer.state:  # not where a layer is unused, such as BERT's pooler under a mean
                tensors |= {f"{kind}.{name}": optimizer.state[parameter][kind] for kind in _MOMENTS}
        file = self.path / f"state-{outcome['updates']}.safetensors"
        with complete_file(file) as aside:
            save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, aside)
        plain = outcome | {"best_score": None if math.isinf(outcome["best_score"]) else outcome["best_score"]}
        write_json(
            self.path / STATE, {"key": self.key, "file": file.name, "sha256": sha256_file(file), "outcome": plain}
        )
        for other in self.path.glob("state-*.safetensors"):
            if other != file:
                other.unlink()

    def load(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Fills model and optimizer; gives the outcome so far and the best weights, or None where there is no state."""
        state = self._state()
        if state is None:
            return None
        tensors = load_file(self.path / state["file"])
        model.load_state_dict(_under(tensors, "model."))
        moments = {kind: _under(tensors, f"{kind}.") for kind in _MOMENTS}
        for name, parameter in _named(optimizer):
            if name in moments["step"]:
                optimizer.state[parameter] = {kind: moments[kind][name].to(parameter.device) for kind in _MOMENTS}
        outcome = state["outcome"]
        if outcome["best_score"] is None:
            outcome["best_score"] = -math.inf
        return outcome, _under(tensors, "best.")

    def remove(self) -> None:
        """The result is there: nothing to go on from."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _state(self) -> dict[str, Any] | None:
        try:
            state = read_json(self.path / STATE)
            if state["key"] != self.key:
                return None
            file = self.path / state["file"]
            if file.is_file() and sha256_file(file) == state["sha256"]:
                return dict(state)
        except (UserError, KeyError, TypeError):
            if not (self.path / STATE).exists():
                return None
        get_logger().warning(f"{self.path} is damaged: fine-tuning begins again.")
        return None


def _named(optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
