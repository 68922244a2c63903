"""What is done between steps: log, evaluate, save. Each says when it is due; the last step is always one."""

import math
from typing import Any, Protocol

from pipeline.base.log import get_logger
from pipeline.stream.loader import Prefetcher
from pipeline.training.checkpoint import TrainState
from pipeline.training.engine_config import micro_size
from pipeline.training.evaluation import evaluate_objective, piece_frequency, validation_stream
from pipeline.training.health import check_loss
from pipeline.training.run import Run
from pipeline.training.save import save_checkpoint
from pipeline.training.speed import peak_flops
from pipeline.training.step import StepResult


class Job(Protocol):
    """Something done between steps. Both methods answer the same on every rank."""

    def due(self, step: int) -> bool:
        """Whether it is to be done after this step."""

    def run(self, state: TrainState, result: StepResult) -> None:
        """Does it. Collective."""


def _due(run: Run, step: int, every: int) -> bool:
    return step % every == 0 or step == run.config.train.steps


class Log:
    """train/...: figures of the step's own global batch (a resumed run writes the same), and the speed."""

    def __init__(self, run: Run, batches: Prefetcher) -> None:
        self.context, self.batches = run, batches
        self.peak = peak_flops(run.ranks.device, run.config.train.precision)
        self.figures: dict[str, str] = {}

    def due(self, step: int) -> bool:
        return _due(self.context, step, self.context.config.train.log_every)

    def run(self, state: TrainState, result: StepResult) -> None:
        run, config = self.context, self.context.config
        totals = run.ranks.sum({**result.sums, "loss": result.loss})
        loss = float(totals.pop("loss"))
        check_loss(loss, state.step, config.train.precision)
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
        if run.engine.grad_norm is not None:
            values["train/grad_norm"] = float(run.engine.grad_norm)
        if self.peak is not None:
            flops = run.engine.objective.flops(batch, length)
            values["train/mfu"] = flops / seconds / (self.peak * run.ranks.world)
        self.figures = {"loss": f"{loss:.4f}", "tokens/s": f"{values['train/tokens_per_second']:,.0f}"}
        run.record(state.step, {key: value for key, value in values.items() if math.isfinite(value)})


class Evaluate:
    """eval/...: on the validation split, dropout off."""

    def __init__(self, run: Run) -> None:
        self.context = run
        self.stream = validation_stream(run.config, run.origin.folder.data)
        self.frequency = None
        if self.stream is not None:
            self.frequency = piece_frequency(run.stream, run.origin.vocab_size, run.ranks)

    def due(self, step: int) -> bool:
        return self.stream is not None and _due(self.context, step, self.context.config.train.eval_every)

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


class Save:
    """A checkpoint."""

    def __init__(self, run: Run) -> None:
        self.context = run

    def due(self, step: int) -> bool:
        return _due(self.context, step, self.context.config.train.save_every)

    def run(self, state: TrainState, result: StepResult) -> None:
        run = self.context
        loss = float(run.ranks.sum({"loss": result.loss})["loss"])
        check_loss(loss, state.step, run.config.train.precision)
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
