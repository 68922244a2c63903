"""Loss spikes: recorded, and with train.on_spike rollback undone, from the last good checkpoint without those batches.

A spike is a loss whose robust z-score over the last train.spike_window losses, (loss - median) / (1.4826 MAD), is above
train.spike_score; once a window. A rollback leaves out the last train.spike_skip batches up to the spike, but none
before the checkpoint; once a checkpoint, so a spike that comes back in the same place is recorded only.

Promise: every decision follows from the losses and what is on the disk, and is in run_dir/rollbacks.json before it
takes effect: a run killed at any moment, or begun again, does the same. Price: the window's losses in each checkpoint.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.files import read_json, told_plainly, write_json
from pipeline.base.log import get_logger
from pipeline.stream.cache import open_cache
from pipeline.training.checkpoint import TrainState, read_state
from pipeline.training.metrics_file import cut_metrics, note
from pipeline.training.ranks import Ranks
from pipeline.training.resume import find_resume_point, load_into
from pipeline.training.run import Run
from pipeline.training.save_job import Save
from pipeline.training.step import StepResult

FILE, ROLLBACKS = "spikes.jsonl", "rollbacks.json"
FLOOR = 0.002
"""Least spread that is believed, as a share of the median."""


@dataclass(frozen=True)
class Rollback:
    """A decision that stands in rollbacks.json and has not taken effect."""

    checkpoint: Path
    """This host's copy of it."""


def robust_score(loss: float, window: tuple[float, ...]) -> float:
    """Deviations, as the median of the absolute ones tells them, of the loss above the median of the window."""
    middle = median(window)
    spread = 1.4826 * median(abs(one - middle) for one in window)
    return (loss - middle) / max(spread, FLOOR * abs(middle), 1e-12)


class Spikes:
    """Looks at every step's loss, which all ranks know. Collective."""

    def __init__(self, run: Run, save: Save, state: TrainState) -> None:
        self.context, self.save = run, save
        with run.ranks.together(), told_plainly(run.folder.path / FILE):
            if run.ranks.rank == 0:
                cut_metrics(run.folder.path / FILE, state.step)

    def look(self, state: TrainState, result: StepResult) -> tuple[TrainState, Rollback | None]:
        """state: after the step. The state with its loss in the window; and what is to be gone back to."""
        train = self.context.config.train
        if result.skipped:
            return state, None
        window = state.losses
        found = replace(state, losses=(*window, result.loss)[-train.spike_window :])
        quiet = state.last_spike == 0 or state.step - state.last_spike > train.spike_window
        score = robust_score(result.loss, window) if len(window) == train.spike_window and quiet else 0.0
        if score <= train.spike_score:
            return found, None
        found = replace(found, last_spike=state.step)
        batch = replace(state, step=state.step - 1).position
        self._tell(state.step, batch, result.loss, score)
        return found, self._go_back(found, batch, result.loss, score) if train.on_spike == "rollback" else None

    def _tell(self, step: int, batch: int, loss: float, score: float) -> None:
        run, size = self.context, self.context.config.train.batch_size
        if run.ranks.rank != 0:
            return
        samples = {"first_sample": batch * size, "last_sample": (batch + 1) * size - 1}
        get_logger().warning(
            f"step {step}: the loss spikes: {loss:.4f}, {score:.1f} robust deviations above the median of the last "
            f"{run.config.train.spike_window} (train.spike_score {run.config.train.spike_score:g}). Samples "
            f"{samples['first_sample']} to {samples['last_sample']}"
        )
        note(run.folder.path / FILE, step, {"loss": loss, "score": score, **samples})

    def _go_back(self, state: TrainState, batch: int, loss: float, score: float) -> Rollback | None:
        """Decides, and writes the decision down. UserError where that cannot be written."""
        run, ranks, step = self.context, self.context.ranks, state.step
        self.save.settle(step)
        ranks.watch.start(f"step {step:,}: looks for a checkpoint to go back to")
        known = read_rollbacks(run.folder.path, ranks)
        cache = open_cache(run.config.data)
        checkpoint = find_resume_point(run.folder, ranks, cache)
        if checkpoint is None or any(one["checkpoint"] == checkpoint.name for one in known):
            why = (
                "there is no checkpoint yet" if checkpoint is None else f"it has gone back to {checkpoint.name} before"
            )
            get_logger().warning(f"step {step}: the run goes on: {why}")
            if checkpoint is not None:
                cache.release_at(checkpoint)
            return None
        with ranks.together():
            start, _ = read_state(checkpoint)
            first = max(batch - run.config.train.spike_skip + 1, with_passed(start, known).position)
            entry = {"step": step, "loss": loss, "score": score, "checkpoint": checkpoint.name}
            entry |= {"first_batch": first, "last_batch": batch, "bad_shards": state.bad_shards}
            if ranks.rank == 0:
                write_json(run.folder.path / ROLLBACKS, [*known, entry])
        get_logger().warning(
            f"step {step}: the run goes back to {checkpoint.name}; the stream's batches {first} to {batch} are left out"
        )
        return Rollback(checkpoint)


def go_back(run: Run, rollback: Rollback) -> TrainState:
    """Puts the checkpoint's state into the engine; the batches that are left out from here on. Collective."""
    run.ranks.watch.start(f"goes back to {rollback.checkpoint.name}")
    state = load_into(run.engine, rollback.checkpoint)
    open_cache(run.config.data).release_at(rollback.checkpoint)
    with run.ranks.together(), told_plainly(run.folder.metrics):
        if run.ranks.rank == 0:
            cut_metrics(run.folder.metrics, state.step)
    run.ranks.watch.start(f"begins again at step {state.step:,}")
    return with_passed(state, read_rollbacks(run.folder.path, run.ranks))


def with_passed(state: TrainState, rollbacks: list[dict[str, Any]]) -> TrainState:
    """The state with what rollbacks.json leaves out beside what it knows of: batches, and shards that were bad then."""
    passed = {*state.passed, *(f"{one['first_batch']}-{one['last_batch']}" for one in rollbacks)}
    bad = {*state.bad_shards, *(name for one in rollbacks for name in one.get("bad_shards", ()))}
    return replace(state, passed=tuple(sorted(passed)), bad_shards=tuple(sorted(bad)))


def read_rollbacks(run_dir: Path, ranks: Ranks) -> list[dict[str, Any]]:
    """All that were decided in the run's folder; read by rank 0. Raises UserError."""
    found: list[dict[str, Any]] = []
    path = run_dir / ROLLBACKS
    with ranks.together():
        if ranks.rank == 0 and path.is_file():
            found = read_json(path)
            if not isinstance(found, list) or not all(
                isinstance(one, dict) and {"checkpoint", "first_batch", "last_batch"} <= one.keys() for one in found
            ):
                raise UserError(f"{path} is no list of rollbacks: put it back as it was, or set another run_dir.")
    return list(ranks.from_first(found))
