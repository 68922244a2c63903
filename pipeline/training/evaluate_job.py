"""The job that evaluates on the validation split."""

import json
import math
from dataclasses import replace

from pipeline.base.errors import Preempted
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.training.checkpoint import TrainState
from pipeline.training.engine_config import micro_size
from pipeline.training.evaluation import Abandoned, evaluate_objective, piece_frequency, validation_stream
from pipeline.training.jobs import due
from pipeline.training.ranks import Ranks
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
        self._last: tuple[int, dict[str, float]] = (0, {})

    def figures(self, step: int) -> dict[str, float]:
        """What an evaluation after this step found, if it was the last one; the same on every rank."""
        return self._last[1] if self._last[0] == step else {}

    def due(self, step: int) -> bool:
        return self.stream is not None and due(self.context, step, self.context.config.train.eval_every)

    def make_up(self, state: TrainState) -> TrainState:
        """Makes the evaluation that the state owes, where it owes one. Collective."""
        if owes_evaluation(self.context.folder, state, self.context.ranks):
            self.context.ranks.watch.beat(f"step {state.step:,}: evaluate")
            try:
                self.run(state, None)
            except Abandoned:
                raise Preempted(f"stopped; the same command goes on from step {state.step}.") from None
        return replace(state, evaluation_owed=False)

    def run(self, state: TrainState, result: StepResult | None) -> None:
        run, config = self.context, self.context.config
        if self.stream is None:
            return
        with run.speed.excluded(), run.engine.evaluated() as objective:
            micro = micro_size(config, run.ranks.world)
            found = evaluate_objective(
                objective, self.stream, config.train.eval_sequences, micro, run.ranks, self.frequency
            )
        self._last = state.step, {f"eval/{key}": value for key, value in found.items() if math.isfinite(value)}
        run.record(state.step, self._last[1])
        shown = ", ".join(f"{key} {value:.4f}" for key, value in found.items())
        get_logger().info(f"step {state.step}: evaluation: {shown}")


def owes_evaluation(folder: RunFolder, state: TrainState, ranks: Ranks) -> bool:
    """Whether the evaluation due at the state's step was given up for a stop, and not made up since. Collective."""
    if not state.evaluation_owed:
        return False
    lines = folder.metrics.read_text().splitlines() if ranks.rank == 0 and folder.metrics.is_file() else []
    last = [json.loads(line) for line in lines[-2:]]
    made = any(line["step"] == state.step and any(key.startswith("eval/") for key in line) for line in last)
    return not ranks.from_first(made)
