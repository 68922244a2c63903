"""The job that writes run_dir/health.html at evaluations, checkpoints and the end. Nobody waits for it or fails by it.

Price: rank 0 reads metrics.jsonl and draws, for PART of the run's time at most; what comes too soon is left out.
"""

import time
from pathlib import Path

from pipeline.base.files import write_atomic
from pipeline.base.log import get_logger
from pipeline.health.page import FILE, compared_with, render
from pipeline.health.reference import no_reference
from pipeline.training.checkpoint import TrainState
from pipeline.training.health_job import Health
from pipeline.training.jobs import due
from pipeline.training.run import Run
from pipeline.training.step import StepResult

PART = 0.01


class HealthPage:
    """The page. Rank 0 alone; not collective."""

    def __init__(self, run: Run, health: Health) -> None:
        self.context, self.path, self.findings = run, run.folder.path / FILE, health.path
        self.reference = reference = health.bands.reference
        self.compared = compared_with(reference) if reference else no_reference(run.config, run.origin.vocab_size)
        self._not_before = 0.0

    def due(self, step: int) -> bool:
        train = self.context.config.train
        return due(self.context, step, train.eval_every) or due(self.context, step, train.save_every)

    def run(self, state: TrainState, result: StepResult) -> None:
        run, began = self.context, time.monotonic()
        last = state.step == run.config.train.steps
        if run.ranks.rank != 0 or (began < self._not_before and not last):
            return
        with run.speed.excluded():
            try:
                self._write()
            except Exception as error:  # whatever it is: the page is not worth a run
                get_logger().warning(f"step {state.step}: {self.path.name} is not written: {error}")
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / PART

    def _write(self) -> None:
        run = self.context
        title = f"Health of {Path(run.folder.path).resolve().name}"
        page = render(run.folder.metrics, self.findings, title, self.compared, self.reference)
        write_atomic(self.path, page)
        run.tracker.artifact(self.path)
