"""The loop: one global batch after another, and the jobs due in between. Every decision is the same on every rank."""

from dataclasses import replace

from pipeline.base.errors import Preempted, UserError
from pipeline.base.progress import Progress
from pipeline.stream.loader import Prefetcher
from pipeline.training.batches import next_batch
from pipeline.training.checkpoint import TrainState
from pipeline.training.evaluate_job import Evaluate
from pipeline.training.evaluation import Abandoned
from pipeline.training.guard import Guard
from pipeline.training.health_job import Health
from pipeline.training.health_page import HealthPage
from pipeline.training.jobs import Job, Log
from pipeline.training.run import Run
from pipeline.training.save_job import Save
from pipeline.training.spikes import Rollback, Spikes
from pipeline.training.step import StepResult, train_step


def train(run: Run, state: TrainState) -> TrainState | Rollback:
    """Trains from `state` to the last step, or to a loss spike that is gone back from.

    Raises Preempted, with the state saved, when any rank was asked to stop.
    """
    train, ranks = run.config.train, run.ranks
    stream, first = run.stream, state.step
    stream.leave_out(state.bad_shards)
    evaluate = Evaluate(run)
    with (
        Save(run, evaluate) as save,
        Prefetcher(stream, train.batch_size, ranks.rank, ranks.world, state.position) as batches,
        Progress(train.steps, "steps", "pretrain", start=first, active=ranks.rank == 0) as progress,
    ):
        health = Health(run, state)
        log = Log(run, batches, health)
        jobs: tuple[Job, ...] = (health, log, evaluate, save, HealthPage(run, health))
        guard, spikes = Guard(run, save, state), Spikes(run, save, state)
        result: StepResult | None = None
        state = evaluate.make_up(state)
        save.made_up(state.step)
        while state.step < train.steps:
            step = f"step {state.step + 1:,}"
            try:
                rows, state = next_batch(run, batches, state)
            except UserError:
                if result is not None:
                    save.finish(state)  # what was learned is sound
                raise
            if rows is None:
                raise stopped(state, result, save)
            ranks.watch.beat(f"{step}: forward, backward, update")
            result = train_step(run.engine, rows, state, health.prepare(state))  # one global batch
            before, state = state, advance(run, state, result)
            guard.look(state, result)
            state, rollback = spikes.look(state, result)
            if rollback is not None:
                return rollback
            if state.position != before.position + 1:
                batches.restart(state.position)
            run.speed.stepped()
            try:
                for job in jobs:
                    if job.due(state.step):  # the same on every rank
                        ranks.watch.start(f"{step}: {type(job).__name__.lower()}")
                        job.run(state, result)
            except Abandoned:
                raise stopped(replace(state, evaluation_owed=True), result, save) from None
            except UserError as error:
                if job is evaluate and error.shared:  # by all ranks: a shard gone bad, a store that is away
                    save.finish(replace(state, evaluation_owed=True))  # what was learned is sound
                raise
            progress.advance(1, **log.figures)
    return state


def advance(run: Run, state: TrainState, result: StepResult) -> TrainState:
    """The state after one more global batch."""
    batch, length = run.config.train.batch_size, run.config.data.sequence_length
    return replace(
        state,
        step=state.step + 1,
        samples=state.samples + batch,
        tokens=state.tokens + batch * length,
        flops=state.flops + run.engine.objective.flops(batch, length),
        skipped_steps=state.skipped_steps + result.skipped,
        skipped_in_a_row=state.skipped_in_a_row + 1 if result.skipped else 0,
    )


def stopped(state: TrainState, result: StepResult | None, save: Save) -> Preempted:
    """Saves what is not saved yet; the exception that ends the stage."""
    if result is not None:
        save.finish(state)
    text = f"stopped; the same command goes on from step {state.step}."
    save.context.ranks.watch.saved(text)
    return Preempted(text)
