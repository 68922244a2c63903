"""One global batch: this rank's rows, cut into micro-batches, each a share of the one global loss; then one update."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Protocol

import torch
from torch import Tensor

from model.attention import document_groups
from model.objectives.base import Batch
from model.paths import has_flash
from model.stretches import count_stretches, room_for
from pipeline.base.config import RunConfig
from pipeline.stream.loader import Rows
from pipeline.training.checkpoint import TrainState
from pipeline.training.engine import Engine
from pipeline.training.engine_config import micro_size
from pipeline.training.schedule import learning_rate


@dataclass(frozen=True)
class StepResult:
    """What a step found."""

    loss: float
    """What is optimised, of the global batch."""
    sums: dict[str, Tensor]
    """For Objective.metrics: this rank's part."""
    rate: float
    skipped: int
    """1 when the update was left out because the loss or a gradient was not finite."""
    batch: Batch
    """This rank's rows."""
    shares: list[Tensor]
    """This rank's parts of the loss, one a micro-batch."""


class Watcher(Protocol):
    """Looks at a step from outside (see probe.py)."""

    weight: float
    """Set before each micro-batch."""

    def looking(self) -> AbstractContextManager[None]:
        """Around the micro-steps."""

    def before_update(self) -> None:
        """After them, before the update."""


def train_step(engine: Engine, rows: Rows, state: TrainState, watcher: Watcher | None = None) -> StepResult:
    """Trains on the global batch of which `rows` is this rank's share."""
    config, ranks = engine.config, engine.ranks
    batch, stretches = to_device(to_batch(rows), ranks.device)
    totals = ranks.sum(engine.objective.counts(batch))
    rate = learning_rate(config.optimizer.lr, config.schedule, state.updates, config.train.steps)
    engine.set_rate(rate)
    loss, shares = torch.zeros((), device=ranks.device), []
    sums: dict[str, Tensor] = {}
    with nullcontext() if watcher is None else watcher.looking():
        parts = micro_batches(batch, micro_size(config, ranks.world), engine.micro_steps, stretches)
        for micro, (part, weight) in enumerate(parts):
            torch.manual_seed(dropout_seed(config, state.step, ranks.rank, micro))
            if watcher is not None:
                watcher.weight = weight
            share, found = engine.micro_step(part, totals, weight)
            shares.append(share)
            loss = loss + share
            sums = add(sums, found, weight)
    if watcher is not None:
        watcher.before_update()
    done = engine.update(loss)
    return StepResult(done.loss, sums, rate, int(done.left_out), batch, shares)


def micro_batches(
    batch: Batch, size: int, count: int, stretches: Sequence[int] | None = None
) -> Iterator[tuple[Batch, float]]:
    """`count` parts of at most `size` rows, each with weight 1; a part without rows is the first row with weight 0.

    Every rank makes the same number of parts, whatever its share, so that all take part in the same collectives.
    stretches: see to_device; each part then has room for its own.
    """

    def part(rows: slice) -> Batch:
        taken = rows_of(batch, rows)
        return taken if stretches is None else replace(taken, room=room_for(stretches[rows]))

    starts = range(0, len(batch.sample), size)
    for start, _ in zip_longest(starts, range(count)):
        if start is None:
            yield part(slice(0, 1)), 0.0
        else:
            yield part(slice(start, start + size)), 1.0


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""
    documents = None if batch.documents is None else batch.documents[rows]
    segments = None if batch.segments is None else batch.segments[rows]
    return Batch(batch.ids[rows], batch.sample[rows], documents, segments)


def to_batch(rows: Rows) -> Batch:
    """The stream's arrays as tensors."""
    documents = None if rows.documents is None else torch.from_numpy(rows.documents)
    segments = None if rows.segments is None else torch.from_numpy(rows.segments)
    return Batch(torch.from_numpy(rows.ids), torch.from_numpy(rows.sample), documents, segments)


def to_device(batch: Batch, device: torch.device) -> tuple[Batch, list[int] | None]:
    """The batch on the device, and how many stretches of one document each row has, where the device's attention asks.

    A GPU copies from pinned memory while the host goes on.
    """
    if device.type != "cuda":
        return batch.to(device), None
    stretches = None
    if has_flash(device):
        stretches = count_stretches(document_groups(batch.ids, batch.documents).numbers)
    return batch.pinned().to(device), stretches


def add(sums: dict[str, Tensor], more: dict[str, Tensor], weight: float = 1.0) -> dict[str, Tensor]:
    """Adds in float64; a key that is new starts at 0."""
    return {key: sums.get(key, 0.0) + weight * value.detach().double() for key, value in more.items()}


def dropout_seed(config: RunConfig, step: int, rank: int, micro: int) -> int:
    """Seed of torch's generator for one micro-step: nothing of it needs saving to resume exactly."""
    text = f"dropout {config.seed} {step} {rank} {micro}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
