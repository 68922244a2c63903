"""Steps whose update was left out because the loss or a gradient was not finite: told, kept in run_dir/skipped.jsonl,
and, when there are too many in a row, the end of the run with the batch kept for pipeline/replay.py.

A skipped step changes nothing but the counts: weights, moments and the schedule stay as they were, on all ranks alike.
Price: nothing in a step that is not skipped.
"""

import logging
import math
from dataclasses import replace
from typing import Any

import torch

from pipeline.base.errors import UserError
from pipeline.base.files import told_plainly
from pipeline.base.log import get_logger
from pipeline.stream.order import share
from pipeline.training.checkpoint import TrainState
from pipeline.training.engine_config import micro_size
from pipeline.training.metrics_file import cut_metrics, note
from pipeline.training.places import sample_keys
from pipeline.training.replay_file import save_replay
from pipeline.training.run import Run
from pipeline.training.save_job import Save
from pipeline.training.step import StepResult

SHOWN = 8
"""Keys in a line of the log; skipped.jsonl has all."""


class Guard:
    """Looks at every step's outcome. Collective."""

    def __init__(self, run: Run, save: Save, state: TrainState) -> None:
        self.context, self.save, self.path = run, save, run.folder.path / "skipped.jsonl"
        with run.ranks.together(), told_plainly(self.path):
            if run.ranks.rank == 0:
                cut_metrics(self.path, state.step)

    def look(self, state: TrainState, result: StepResult) -> None:
        """state: after the step. Raises UserError on all ranks past train.max_skipped updates left out in a row."""
        if not result.skipped:
            return
        run, limit = self.context, self.context.config.train.max_skipped
        facts = self._facts(state, result)
        if run.ranks.rank == 0:
            self._tell(state, result, facts)
        if state.skipped_in_a_row <= limit:
            return
        path = save_replay(run.engine, run.folder.path, state.step, facts, result.batch)
        # What was learned is sound. Started again, the run goes on behind the batch, with the count from 0.
        self.save.finish(replace(state, skipped_in_a_row=0))
        raise UserError(
            f"the last {state.skipped_in_a_row} updates up to step {state.step} were left out, because the loss or a "
            f"gradient was not finite (train.max_skipped {limit}). The last batch is kept in {path}: `python "
            f"pipeline/replay.py run_dir={run.config.run_dir}` runs it again and names the place. Lower optimizer.lr "
            "or lengthen schedule.warmup_steps in another run_dir, or set train.precision to bf16 where it is fp16."
        )

    def _facts(self, state: TrainState, result: StepResult) -> dict[str, Any]:
        """What is kept of the step: which samples, and of which of them the loss itself was not finite. Collective."""
        run, train = self.context, self.context.config.train
        size = micro_size(run.config, run.ranks.world)
        first = replace(state, step=state.step - 1).position * train.batch_size
        marks = torch.zeros(train.batch_size)
        for number, part in enumerate(result.shares):
            if not math.isfinite(float(part)):
                marks[(result.batch.sample[number * size : (number + 1) * size] - first).cpu()] = 1.0
        marked = run.ranks.sum({"marks": marks})["marks"].nonzero().flatten().tolist()
        world = run.ranks.world
        shares = [share(train.batch_size, rank, world) for rank in range(world)]
        samples = [first + row for row in marked or range(train.batch_size)]
        return {
            "reason": "loss" if not math.isfinite(result.loss) else "gradient",
            "loss": str(result.loss),
            "rate": result.rate,
            "updates": state.updates,
            "first_sample": first,
            "last_sample": first + train.batch_size - 1,
            "bad_samples": [first + row for row in marked],
            "bad_ranks": [rank for rank, rows in enumerate(shares) if any(row in rows for row in marked)],
            "keys": dict(zip(map(str, samples), sample_keys(run.stream, samples), strict=True)),
            "ranks": world,
            "micro_batch_size": size,
            "device": run.ranks.device.type,
            "loss_scale": run.engine.scaler().get("cur_scale", 1.0),
        }

    def _tell(self, state: TrainState, result: StepResult, facts: dict[str, Any]) -> None:
        path = self.path
        note(path, state.step, facts)
        keys = list(facts["keys"].items())
        shown = "; ".join(f"{sample}: {key}" for sample, key in keys[:SHOWN])
        more = f"; {len(keys) - SHOWN:,} more in {path}" if len(keys) > SHOWN else ""
        what = "a gradient is not finite"
        if facts["reason"] == "loss":
            what = f"the loss is {result.loss} (rank {', '.join(map(str, facts['bad_ranks']))})"
        expected = self.context.config.train.precision == "fp16" and facts["reason"] == "gradient"
        get_logger().log(
            logging.INFO if expected else logging.WARNING,
            f"step {state.step}: the update is left out, the {state.skipped_in_a_row}. in a row: {what}. Samples "
            f"{facts['first_sample']} to {facts['last_sample']}; {shown}{more}",
        )
