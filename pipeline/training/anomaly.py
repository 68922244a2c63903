"""Runs a kept step again, micro-batch by micro-batch as the ranks ran it, and names where numbers stop being finite.

One process, no DeepSpeed, the same dropout seeds; autograd's anomaly detection is on. The first micro-batch that goes
wrong is told and ends the search. Price: anomaly detection makes a step several times slower.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from model.objectives.base import Batch, Objective
from pipeline.base.errors import UserError
from pipeline.stream.order import share
from pipeline.training.engine_config import micro_steps
from pipeline.training.precision import make_objective
from pipeline.training.replay_file import Replay
from pipeline.training.step import dropout_seed, micro_batches, rows_of


@dataclass
class Fault:
    """What was found in one micro-batch."""

    rank: int
    micro: int
    samples: list[int]
    loss: float
    terms: list[str] = field(default_factory=list)
    """Loss terms whose sum is not finite."""
    modules: list[str] = field(default_factory=list)
    """Modules with an output that is not finite, in the order of the forward pass."""
    inputs_finite: bool = True
    """Whether the first of them was given finite numbers, so that it is where they go wrong."""
    backward: list[str] = field(default_factory=list)
    """Modules at whose output the gradient is not finite, in the order of the backward pass."""
    parameters: list[str] = field(default_factory=list)
    """Parameters whose gradient is not finite."""
    anomaly: str = ""
    """What autograd says."""

    def words(self) -> list[str]:
        """The finding, a sentence a line."""
        where = f"rank {self.rank}, micro-batch {self.micro}, samples {_listed(self.samples)}: the loss is {self.loss}"
        lines = [where]
        if self.modules:
            how = "its input was finite" if self.inputs_finite else "its input was not finite already"
            lines.append(f"first module with an output that is not finite: {self.modules[0]} ({how})")
        if self.terms:
            lines.append(f"loss terms that are not finite: {', '.join(self.terms)}")
        if not self.modules and self.terms:
            lines.append("the networks' outputs are finite: it goes wrong in the loss itself")
        if self.backward and not self.modules:
            lines.append(f"the gradient goes wrong behind the output of {self.backward[0]}")
        if self.parameters:
            lines.append(f"{len(self.parameters)} parameters' gradients are not finite, such as {self.parameters[0]}")
        return lines + ([f"autograd: {self.anomaly}"] if self.anomaly else [])


def replay_objective(replay: Replay) -> Objective:
    """The objective as it was before the step, in training mode."""
    objective = make_objective(replay.config, int(replay.facts["vocab_size"]))
    named = dict(objective.named_parameters())
    if {name: p.shape for name, p in named.items()} != {name: w.shape for name, w in replay.weights.items()}:
        raise UserError(f"the weights in {replay.path} are not of the model that its config.yaml describes.")
    for name, parameter in named.items():
        parameter.data.copy_(replay.weights[name])
    return objective.train()


def bad_weights(replay: Replay) -> list[str]:
    """Names of the parameters that are not finite to begin with."""
    return [name for name, tensor in replay.weights.items() if not tensor.isfinite().all()]


def find_fault(replay: Replay, objective: Objective, device: torch.device) -> Fault | None:
    """The first micro-batch whose loss or gradients are not finite; those that the run marked are tried first."""
    config, facts = replay.config, replay.facts
    batch, world = replay.batch.to(device), int(facts["ranks"])
    totals = {key: value.to(device) for key, value in objective.counts(batch).items()}
    marked, tries = set(facts["bad_samples"]), []
    for rank in range(world):
        mine = share(config.train.batch_size, rank, world)
        rows = rows_of(batch, slice(mine.start, mine.stop))
        parts = micro_batches(rows, int(facts["micro_batch_size"]), micro_steps(config, world))
        tries += [(rank, micro, part) for micro, (part, weight) in enumerate(parts) if weight]
    for rank, micro, part in sorted(tries, key=lambda one: not marked & set(one[2].sample.tolist())):
        torch.manual_seed(dropout_seed(config, int(facts["step"]) - 1, rank, micro))
        fault = Fault(rank, micro, part.sample.tolist(), 0.0)
        if _run(objective, part, totals, float(facts["loss_scale"]), fault):
            return fault
    return None


def _run(objective: Objective, part: Batch, totals: dict[str, Tensor], scale: float, fault: Fault) -> bool:
    """Forward and backward of one micro-batch; whether anything was not finite, noted in `fault`."""
    objective.zero_grad(set_to_none=True)
    with _watched(objective, fault), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with torch.autograd.detect_anomaly(check_nan=True):
            loss, sums = objective(part, totals)
            fault.loss = float(loss.detach())
            fault.terms = [key.partition("/")[0] for key, value in sums.items() if not value.isfinite().all()]
            try:
                (loss * scale).backward()
            except RuntimeError as error:
                fault.anomaly = " ".join([str(error).splitlines()[0], *_place(told)])
    fault.parameters = [
        name for name, p in objective.named_parameters() if p.grad is not None and not p.grad.isfinite().all()
    ]
    finite = torch.tensor(fault.loss).isfinite().item()
    return bool(not finite or fault.modules or fault.backward or fault.parameters or fault.anomaly)


@contextmanager
def _watched(objective: Objective, fault: Fault) -> Iterator[None]:
    """Notes modules, innermost first, with outputs or gradients that are not finite."""
    handles = []
    for name, module in objective.named_modules():
        if name:
            handles.append(module.register_forward_hook(_noting(name, fault)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _noting(name: str, fault: Fault) -> Any:
    def note(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return
        if not output.isfinite().all():
            if not fault.modules:
                fault.inputs_finite = all(x.isfinite().all() for x in given if isinstance(x, Tensor))
            fault.modules.append(name)
        if output.requires_grad:
            output.register_hook(lambda gradient: _note_gradient(name, gradient, fault))

    return note


def _note_gradient(name: str, gradient: Tensor, fault: Fault) -> None:
    if not gradient.isfinite().all():
        fault.backward.append(name)


def _place(told: list[warnings.WarningMessage]) -> list[str]:
    """The line of the forward pass that the anomaly came from, out of autograd's warning."""
    lines = [line.strip() for one in told for line in str(one.message).splitlines()]
    files = [line for line in lines if line.startswith("File ") and ("/model/" in line or "/pipeline/" in line)]
    with suppress(IndexError):
        return [f"(computed in {files[-1].removeprefix('File ')})"]
    return []


def _listed(samples: list[int]) -> str:
    return f"{samples[0]} to {samples[-1]}" if len(samples) > 1 else str(samples[0])
