"""The job that saves checkpoints behind training's back. One that fails (a full disk) costs an error line, not the run.

The last step and a stop wait until their state is on the disk, try once more, and only then end the run.
"""

import time
from dataclasses import replace
from types import TracebackType
from typing import Any

from pipeline.base.errors import Preempted, UserError
from pipeline.base.log import get_logger
from pipeline.training.checkpoint import BEST, TrainState, read_manifest, read_pointer
from pipeline.training.evaluate_job import Evaluate
from pipeline.training.jobs import due
from pipeline.training.keep import add_evaluation, is_better
from pipeline.training.run import Run
from pipeline.training.save import CheckpointFiles, Content
from pipeline.training.step import StepResult
from pipeline.training.writer import Outcome, Writer


class Save:
    """Checkpoints. Due as well while one is being written: its end is taken up then. Leaving it waits for that end."""

    def __init__(self, run: Run, evaluate: Evaluate) -> None:
        self.context, self.evaluate = run, evaluate
        self.writer = Writer(CheckpointFiles(run.engine, run.folder, run.origin))
        self.metric = run.config.train.keep_best
        with run.ranks.together():
            best = self._best_before() if run.ranks.rank == 0 else None
        self.best = run.ranks.from_first(best)
        self.saved: TrainState | None = None
        self.last_good = ""
        self.failures = 0
        self._stall = 0.0

    def due(self, step: int) -> bool:
        return self.writer.busy or self._wanted(step)

    def run(self, state: TrainState, result: StepResult) -> None:
        with self.context.speed.excluded():
            if state.step == self.context.config.train.steps:
                self.finish(state)
            elif self._wanted(state.step):
                self._take_up(self.writer.wait(), state.step)
                self._start(state)
            else:
                self._take_up(self.writer.ended(), state.step)

    def made_up(self, step: int) -> None:
        """Takes up an evaluation that was made up: the checkpoint of its step is there already. Collective."""
        if figures := self.evaluate.figures(step):
            best, first = self._is_best(step), self.context.ranks.rank == 0
            noted = first and add_evaluation(self.context.folder, step, figures, best)
            if self.context.ranks.from_first(noted) and best:
                self.best = figures[str(self.metric)]

    def settle(self, step: int) -> None:
        """Waits for a save under way. Collective."""
        self._take_up(self.writer.wait(), step)

    def finish(self, state: TrainState) -> None:
        """Returns once this very state is saved. Collective; UserError when that failed twice."""
        self._take_up(self.writer.wait(), state.step)
        for again in (False, True):
            if self.saved == state:
                return
            self._start(state)
            outcome = self.writer.wait()
            self._take_up(outcome, None if again else state.step)
        with self.context.ranks.together():
            if outcome is not None and not outcome.saved:
                raise UserError(
                    f"step {state.step} could not be saved: {outcome.problem} {self._kept()} Make room, or mend the "
                    "path or the access to it, then start the same command again."
                )

    def __enter__(self) -> "Save":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for a save under way; not for long where this rank leaves alone."""
        if error is None or isinstance(error, UserError | Preempted):
            self._take_up(self.writer.wait(), None)
        else:
            self.writer.leave()

    def _wanted(self, step: int) -> bool:
        return due(self.context, step, self.context.config.train.save_every) or self._is_best(step)

    def _is_best(self, step: int) -> bool:
        value = self.evaluate.figures(step).get(self.metric or "")
        return value is not None and is_better(str(self.metric), value, self.best)

    def _start(self, state: TrainState) -> None:
        run = self.context
        kept = replace(state, save_failures=state.save_failures + self.failures)
        began = time.monotonic()
        self._state = state
        self.writer.start(Content(kept, run.engine.scaler(), self._facts(state), self._is_best(state.step)))
        self._stall = time.monotonic() - began

    def _take_up(self, outcome: Outcome | None, now: int | None) -> None:
        """Tells how a save ended. now: the step that training is at; None where it has ended."""
        if outcome is None:
            return
        step = outcome.content.state.step
        if outcome.saved:
            self.saved, self.last_good = self._state, outcome.path.name
            if outcome.content.best:
                self.best = outcome.content.facts["evaluation"][self.metric]
            get_logger().info(
                f"step {step}: saved {outcome.path} in {outcome.seconds:.1f} s, for {self._stall:.2f} s of which "
                "training waited"
            )
            return
        self.failures += 1
        if self.context.ranks.rank == 0:
            get_logger().error(f"step {step}: not saved: {outcome.problem} {self._kept()}")
        if now is not None:
            self.context.record(now, {"train/save_failures": self._state.save_failures + self.failures})

    def _kept(self) -> str:
        return f"The last good checkpoint is {self.last_good}." if self.last_good else "The one before it stays."

    def _best_before(self) -> float | None:
        """The metric's value at the checkpoint that `best` names."""
        name = read_pointer(self.context.folder, BEST) if self.metric else None
        if name is None:
            return None
        try:
            figures: dict[str, float] = read_manifest(self.context.folder.checkpoints / name).get("evaluation", {})
        except UserError:
            return None
        return figures.get(str(self.metric))

    def _facts(self, state: TrainState) -> dict[str, Any]:
        """The MLflow run, what an evaluation found at this step and, of a mixture, each corpus's part of the sequences
        and the passes through it so far."""
        stream = self.context.stream
        corpora = {
            name: {"share": stream.shares.fraction(name), "epochs": epochs}
            for name, epochs in stream.epochs(state.samples).items()
        }
        found = {"evaluation": self.evaluate.figures(state.step), "corpora": corpora}
        return {"mlflow_run_id": self.context.tracker.run_id, **{key: value for key, value in found.items() if value}}
