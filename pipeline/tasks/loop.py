"""The loop of fine-tuning: one process, AdamW, padded batches of like length; the best epoch on dev is what remains.

The same seed gives the same result on the same machine and number of threads, also after a kill: batches and dropout
are functions of (seed, update), the rest of the state is on disk. Price: two more copies of the weights on the host.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from pipeline.base.errors import Preempted, UserError
from pipeline.base.log import get_logger
from pipeline.base.progress import Progress
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.batches import collate, shuffled_batches, sorted_batches
from pipeline.tasks.families.base import Batch, Encoded, Task
from pipeline.tasks.rates import parameter_groups, peaks, rate_factor
from pipeline.tasks.work_folder import WorkFolder

CLIP = 1.0
"""Largest norm of the gradient (released code, optimization.py)."""
LOGGED_POINTS = 100
_SEEDS_APART = 1_000_003

Report = Callable[[int, dict[str, float]], None]
"""Takes an update number and figures, named without their task."""


@dataclass
class Outcome:
    """What training gave so far; at the end the model itself is left at the best epoch."""

    best_epoch: int = 0
    best_score: float = -math.inf
    updates: int = 0
    """Done so far."""
    passes: int = 0
    """Ended so far, dev being scored where that is due."""
    losses: list[float] = field(default_factory=list)
    """Of the epoch that is under way."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Dev figures and the mean training loss of each epoch."""


@dataclass(frozen=True)
class Course:
    """How many updates there are, and after which dev is scored."""

    batches: int
    """A pass over the training rows."""
    passes: int
    epochs: int

    @classmethod
    def of(cls, rows: int, settings: FinetuneConfig) -> "Course":
        """finetune.epochs passes, or as many as finetune.min_updates takes; dev is scored finetune.epochs times."""
        batches = math.ceil(rows / settings.batch_size)
        return cls(batches, max(settings.epochs, math.ceil(settings.min_updates / batches)), settings.epochs)

    @property
    def updates(self) -> int:
        """All of them."""
        return self.batches * self.passes

    def epoch_after(self, done: int) -> int | None:
        """The epoch (from 1) that ends with this pass over the file; None where none does."""
        ends = [round(epoch * self.passes / self.epochs) for epoch in range(1, self.epochs + 1)]
        return ends.index(done) + 1 if done in ends else None


class FineTuning:
    """A model and its task; `train` and then `predict`."""

    def __init__(self, model: Any, task: Task, encoded: dict[str, Encoded], pad_id: int) -> None:
        self.model, self.task, self.encoded, self.pad_id = model, task, encoded, pad_id
        self.settings = task.settings
        self.device = next(model.parameters()).device
        self.best: dict[str, torch.Tensor] = {}

    def train(self, seed: int, report: Report, work: WorkFolder, stop: Callable[[], bool]) -> Outcome:
        """All epochs, from where `work` is; dev after each. UserError when the loss is no longer finite, Preempted."""
        settings = self.settings
        lengths = [len(row["input_ids"]) for row in self.encoded["train"].rows]
        course = Course.of(len(lengths), settings)
        groups = parameter_groups(self.model, self.task.layer_powers(self.model), settings)
        optimizer = torch.optim.AdamW(groups, eps=1e-6, fused=True)
        outcome = self._restored(work, optimizer)
        title, first = f"fine-tuning {settings.name}", outcome.updates
        with deterministic(self.device), Progress(course.updates, "batches", title, start=first) as progress:
            while outcome.passes < course.passes and not self._in_vain(outcome):
                batches = shuffled_batches(lengths, settings.batch_size, seed, outcome.passes + 1)
                for batch in batches[outcome.updates - outcome.passes * course.batches :]:
                    self._step(batch, optimizer, course, outcome, seed)
                    progress.advance(1, loss=f"{outcome.losses[-1]:.3f}")
                    self._watch(course, outcome, report)
                    if stop():
                        self._keep(work, optimizer, outcome)
                        raise Preempted(f"stopped at batch {outcome.updates:,}; the same command goes on from there.")
                    if outcome.updates % settings.save_every == 0:
                        self._keep(work, optimizer, outcome)
                try:
                    self._end_pass(course, outcome, report, stop)
                except Preempted:
                    self._keep(work, optimizer, outcome)
                    raise
                self._keep(work, optimizer, outcome)
        self.model.load_state_dict(self.best)
        return outcome

    @torch.no_grad()
    def predict(
        self,
        split: str,
        quick: bool = False,
        stop: Callable[[], bool] | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> list[Any]:
        """A decision for each example of a split, in the file's order; dropout off. quick: while training watches.

        advance is told how many rows are done. Raises Preempted once stop() says so.
        """
        encoded = self.encoded[split]
        outputs: list[Any] = [None] * len(encoded.rows)
        self.model.eval()
        self.task.quick = quick
        try:
            for places in sorted_batches([len(row["input_ids"]) for row in encoded.rows], self.settings.batch_size):
                if stop is not None and stop():
                    raise Preempted(f"stopped while {split} was read; the same command goes on from the last state.")
                with self._autocast():
                    found = self.task.outputs(self.model, self._batch(encoded, places))
                for place, output in zip(places, found, strict=True):
                    outputs[place] = output
                if advance is not None:
                    advance(len(places))
            return self.task.decide(split, encoded, outputs)
        finally:
            self.task.quick = False

    def _step(
        self, batch: list[int], optimizer: torch.optim.Optimizer, course: Course, outcome: Outcome, seed: int
    ) -> None:
        self.model.train()
        split, update = self.encoded["train"], outcome.updates
        torch.manual_seed(seed * _SEEDS_APART + update)  # dropout, so that nothing of it has to be kept
        with self._autocast():
            loss = self.task.loss(self.model, self._batch(split, batch), [split.targets[place] for place in batch])
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(f"the loss is {value} at batch {update + 1}: lower finetune.lr ({self.settings.lr}).")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        factor = rate_factor(update, course.updates, self.settings.warmup_fraction)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        outcome.updates += 1
        outcome.losses.append(value)

    def _watch(self, course: Course, outcome: Outcome, report: Report) -> None:
        update = outcome.updates
        if update % max(1, course.updates // LOGGED_POINTS) == 0 or update == course.updates:
            factor = rate_factor(update - 1, course.updates, self.settings.warmup_fraction)
            report(update, {"train/loss": outcome.losses[-1], "train/lr": peaks(self.settings)[0] * factor})

    def _end_pass(self, course: Course, outcome: Outcome, report: Report, stop: Callable[[], bool]) -> None:
        epoch = course.epoch_after(outcome.passes + 1)
        if epoch is not None:
            self._end_epoch(epoch, outcome, report, stop)
        outcome.passes += 1
        if self._in_vain(outcome):
            get_logger().info(f"no better score on dev for {self.settings.patience} epochs: training ends here")

    def _end_epoch(self, epoch: int, outcome: Outcome, report: Report, stop: Callable[[], bool]) -> None:
        figures = self.task.metrics("dev", self.predict("dev", quick=True, stop=stop))
        report(outcome.updates, {f"dev/{name}": value for name, value in figures.items()})
        mean = sum(outcome.losses) / len(outcome.losses)
        outcome.losses.clear()
        outcome.history.append({"epoch": epoch, "train/loss": mean, **_dev(figures)})
        get_logger().info(f"epoch {epoch} of {self.settings.epochs}: {_line(outcome.history[-1])}")
        if figures[self.task.selection] > outcome.best_score:
            outcome.best_epoch, outcome.best_score = epoch, figures[self.task.selection]
            self.best = copy.deepcopy({name: value.detach().cpu() for name, value in self.model.state_dict().items()})

    def _in_vain(self, outcome: Outcome) -> bool:
        """Whether finetune.patience epochs have brought nothing better."""
        patience = self.settings.patience
        return patience is not None and len(outcome.history) - outcome.best_epoch >= patience

    def _keep(self, work: WorkFolder, optimizer: torch.optim.Optimizer, outcome: Outcome) -> None:
        work.save(asdict(outcome), self.model, self.best, optimizer)

    def _restored(self, work: WorkFolder, optimizer: torch.optim.Optimizer) -> Outcome:
        found = work.load(self.model, optimizer)
        if found is None:
            return Outcome()
        state, self.best = found
        get_logger().info(f"going on from batch {state['updates']:,}")
        return Outcome(**state)

    def _batch(self, encoded: Encoded, places: Sequence[int]) -> Batch:
        batch = collate([encoded.rows[place] for place in places], self.pad_id, self.task.pad_values)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def _autocast(self) -> torch.autocast:
        bf16 = self.settings.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16)


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


def _line(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if name != "epoch")
