"""The job that saves a checkpoint."""

from typing import Any

from pipeline.base.log import get_logger
from pipeline.training.checkpoint import TrainState
from pipeline.training.jobs import due
from pipeline.training.run import Run
from pipeline.training.save import save_checkpoint
from pipeline.training.step import StepResult


class Save:
    """A checkpoint."""

    def __init__(self, run: Run) -> None:
        self.context = run

    def due(self, step: int) -> bool:
        return due(self.context, step, self.context.config.train.save_every)

    def run(self, state: TrainState, result: StepResult) -> None:
        run = self.context
        with run.speed.excluded():
            path = save_checkpoint(run.engine, run.folder, state, run.origin, self._facts(state))
        get_logger().info(f"step {state.step}: saved {path}")

    def _facts(self, state: TrainState) -> dict[str, Any]:
        """The MLflow run and, of a mixture, each corpus's part of the sequences and the passes through it so far."""
        stream = self.context.stream
        corpora = {
            name: {"share": stream.shares.fraction(name), "epochs": epochs}
            for name, epochs in stream.epochs(state.samples).items()
        }
        return {"mlflow_run_id": self.context.tracker.run_id, **({"corpora": corpora} if corpora else {})}
