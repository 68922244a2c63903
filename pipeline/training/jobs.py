"""What is done between steps: log; evaluate and save have files of their own. The last step is always due."""

import math
from typing import Protocol

from pipeline.stream.loader import Prefetcher
from pipeline.training.checkpoint import TrainState
from pipeline.training.run import Run
from pipeline.training.speed import peak_flops
from pipeline.training.step import StepResult


class Job(Protocol):
    """Something done between steps. Both methods answer the same on every rank."""

    def due(self, step: int) -> bool:
        """Whether it is to be done after this step."""

    def run(self, state: TrainState, result: StepResult) -> None:
        """Does it. Collective."""


class Figures(Protocol):
    """What gives more figures of the step."""

    figures: dict[str, float]


def due(run: Run, step: int, every: int) -> bool:
    """Whether something that is done every so many steps is due after this one."""
    return step % every == 0 or step == run.config.train.steps


class Log:
    """train/...: figures of the step's own global batch (a resumed run writes the same), and the speed."""

    def __init__(self, run: Run, batches: Prefetcher, health: Figures) -> None:
        self.context, self.batches, self.health = run, batches, health
        self.peak = peak_flops(run.ranks.device, run.config.train.precision)
        self.figures: dict[str, str] = {}

    def due(self, step: int) -> bool:
        return due(self.context, step, self.context.config.train.log_every)

    def run(self, state: TrainState, result: StepResult) -> None:
        run, config = self.context, self.context.config
        totals, loss = run.ranks.sum(result.sums), result.loss
        seconds, waiting = run.speed.read(self.batches.wait_seconds)
        batch, length = config.train.batch_size, config.data.sequence_length
        values = {"train/loss": loss}
        values |= {f"train/{k}": v for k, v in run.engine.objective.metrics(totals, training=True).items()}
        values |= {
            "train/lr": result.rate,
            "train/tokens_per_second": batch * length / seconds,
            "train/samples": state.samples,
            "train/flops": state.flops,
            "train/data_wait_fraction": waiting,
            "train/skipped_steps": state.skipped_steps,
        }
        values |= {f"train/epochs/{name}": passes for name, passes in run.stream.epochs(state.samples).items()}
        values |= self.health.figures
        if run.engine.grad_norm is not None:
            values["train/grad_norm"] = float(run.engine.grad_norm)
        if self.peak is not None:
            flops = run.engine.objective.flops(batch, length)
            values["train/mfu"] = flops / seconds / (self.peak * run.ranks.world)
        self.figures = {"loss": f"{loss:.4f}", "tokens/s": f"{values['train/tokens_per_second']:,.0f}"}
        run.record(state.step, {key: value for key, value in values.items() if math.isfinite(value)})
