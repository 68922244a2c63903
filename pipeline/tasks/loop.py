"""The loop of fine-tuning: one process, AdamW, padded batches of like length; the best epoch on dev is what remains.

The same seed gives the same result on the same machine and number of threads. Price: a copy of the weights on the host.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.base.progress import Progress
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.batches import pad, shuffled_batches, sorted_batches
from pipeline.tasks.families.base import Encoded, Task
from pipeline.tasks.rates import parameter_groups, rate_factor

CLIP = 1.0
"""Largest norm of the gradient (released code, optimization.py)."""
LOGGED_POINTS = 100

Report = Callable[[int, dict[str, float]], None]
"""Takes an update number and figures, named without their task."""


@dataclass
class Outcome:
    """What training gave; the model itself is left at the best epoch."""

    best_epoch: int = 0
    best_score: float = -math.inf
    updates: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """Dev figures and the mean training loss of each epoch."""


class FineTuning:
    """A model and its task; `train` and then `predict`."""

    def __init__(
        self, model: Any, task: Task, encoded: dict[str, Encoded], settings: FinetuneConfig, pad_id: int
    ) -> None:
        self.model, self.task, self.encoded, self.settings, self.pad_id = model, task, encoded, settings, pad_id
        self.device = next(model.parameters()).device

    def train(self, seed: int, report: Report) -> Outcome:
        """All epochs; dev after each. Raises UserError when the loss is no longer finite."""
        settings = self.settings
        lengths = [len(row) for row in self.encoded["train"].ids]
        updates = settings.epochs * math.ceil(len(lengths) / settings.batch_size)
        outcome = Outcome(updates=updates)
        groups = parameter_groups(self.model, self.model.base_model_prefix, settings)
        optimizer = torch.optim.AdamW(groups, eps=1e-6, fused=True)
        torch.manual_seed(seed)
        best, update = None, 0
        with deterministic(self.device), Progress(updates, "batches", f"fine-tuning {settings.name}") as progress:
            for epoch in range(1, settings.epochs + 1):
                losses = []
                for batch in shuffled_batches(lengths, settings.batch_size, seed, epoch):
                    factor = rate_factor(update, updates, settings.warmup_fraction)
                    losses.append(self._update(batch, optimizer, factor, update))
                    update += 1
                    if update % max(1, updates // LOGGED_POINTS) == 0 or update == updates:
                        report(update, {"train/loss": losses[-1], "train/lr": settings.lr * factor})
                    progress.advance(1, loss=f"{losses[-1]:.3f}", epoch=epoch)
                figures = self.task.metrics("dev", self.predict("dev"))
                report(update, {f"dev/{name}": value for name, value in figures.items()})
                outcome.history.append({"epoch": epoch, "train/loss": sum(losses) / len(losses), **_dev(figures)})
                get_logger().info(f"epoch {epoch} of {settings.epochs}: {_line(outcome.history[-1])}")
                if figures[self.task.selection] > outcome.best_score:
                    outcome.best_epoch, outcome.best_score = epoch, figures[self.task.selection]
                    best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(best)
        return outcome

    @torch.no_grad()
    def predict(self, split: str) -> Tensor:
        """Logits of a split in the file's order, fp32 on the CPU; dropout off."""
        ids = self.encoded[split].ids
        rows: list[Tensor | None] = [None] * len(ids)
        self.model.eval()
        for batch in sorted_batches([len(row) for row in ids], self.settings.batch_size):
            logits = self._logits([ids[index] for index in batch]).float().cpu()
            for index, row in zip(batch, logits, strict=True):
                rows[index] = row
        return torch.stack([row for row in rows if row is not None])

    def _update(self, batch: list[int], optimizer: torch.optim.Optimizer, factor: float, update: int) -> float:
        self.model.train()
        split = self.encoded["train"]
        logits = self._logits([split.ids[index] for index in batch])
        loss = self.task.loss(logits, split.targets[batch].to(self.device))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(f"the loss is {value} at batch {update + 1}: lower finetune.lr ({self.settings.lr}).")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value

    def _logits(self, ids: list[Any]) -> Tensor:
        padded, mask = (tensor.to(self.device) for tensor in pad(ids, self.pad_id))
        bf16 = self.settings.precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            return self.model(input_ids=padded, attention_mask=mask).logits


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Repeatable kernels on an accelerator while it holds; the CPU's are repeatable as they are."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(device.type != "cpu" or before, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _dev(figures: dict[str, float]) -> dict[str, float]:
    return {f"dev/{name}": value for name, value in figures.items()}


def _line(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in row.items() if name != "epoch")
