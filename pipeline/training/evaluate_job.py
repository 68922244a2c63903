"""The job that evaluates on the validation split."""

import math

from pipeline.base.log import get_logger
from pipeline.training.checkpoint import TrainState
from pipeline.training.engine_config import micro_size
from pipeline.training.evaluation import evaluate_objective, piece_frequency, validation_stream
from pipeline.training.jobs import due
from pipeline.training.run import Run
from pipeline.training.step import StepResult


class Evaluate:
    """eval/...: on the validation split, dropout off."""

    def __init__(self, run: Run) -> None:
        self.context = run
        self.stream = validation_stream(run.config, run.origin.folder.data)
        self.frequency = None
        if self.stream is not None:
            self.frequency = piece_frequency(run.stream, run.origin.vocab_size, run.ranks)

    def due(self, step: int) -> bool:
        return self.stream is not None and due(self.context, step, self.context.config.train.eval_every)

    def run(self, state: TrainState, result: StepResult) -> None:
        run, config = self.context, self.context.config
        if self.stream is None:
            return
        with run.speed.excluded(), run.engine.evaluated() as objective:
            micro = micro_size(config, run.ranks.world)
            found = evaluate_objective(
                objective, self.stream, config.train.eval_sequences, micro, run.ranks, self.frequency
            )
        run.record(state.step, {f"eval/{key}": value for key, value in found.items() if math.isfinite(value)})
        shown = ", ".join(f"{key} {value:.4f}" for key, value in found.items())
        get_logger().info(f"step {state.step}: evaluation: {shown}")
