"""Pretraining: shards to checkpoints. The same command goes on from the newest one, on as many ranks as there are."""

import math
import os
from contextlib import ExitStack
from pathlib import Path

import torch

from model.objectives.base import Objective
from pipeline.base.config import RunConfig, dump_config
from pipeline.base.errors import Preempted, UserError
from pipeline.base.files import lock_folder, read_json, write_atomic, write_json
from pipeline.base.lease import RENEW_SECONDS, STALE_SECONDS, hold_store
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import start_run
from pipeline.planning.fitting import check_micro_batch, with_micro_batch
from pipeline.stream.cache import open_cache
from pipeline.training.batches import leave_out
from pipeline.training.checkpoint import TrainState, read_state
from pipeline.training.continued import resolve_init
from pipeline.training.deterministic import make_deterministic
from pipeline.training.distributed import launched_world, start_ranks
from pipeline.training.engine import Engine
from pipeline.training.engine_config import deepspeed_config, zero_stage
from pipeline.training.evaluate_job import owes_evaluation
from pipeline.training.initial import announce, initial_objective, is_continued
from pipeline.training.launcher import ELASTIC
from pipeline.training.loop import train
from pipeline.training.metrics_file import all_metrics, cut_metrics
from pipeline.training.origin import Origin, find_origin, training_stream, verify_data
from pipeline.training.plan import plan_pretraining
from pipeline.training.ranks import Ranks
from pipeline.training.resume import check_same_data, check_unchanged, find_resume_point, load_into
from pipeline.training.run import Run
from pipeline.training.schedule import odd_warmup
from pipeline.training.spikes import Rollback, go_back, read_rollbacks, with_passed
from pipeline.training.watchdog import Watchdog, watchdog_of

ELASTIC_SECONDS = 60.0
"""Under an elastic launcher: how long the run's folder is waited for. A host that was cut off may still hold it."""
LAST_RELEASE_SECONDS = 1.0
"""How long a process that is ended by its watchdog waits for its store to take back the lease."""


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """The lines of --dry-run."""
    check_micro_batch(config)
    return plan_pretraining(resolve_init(config))


def run(config: RunConfig) -> None:
    """Trains to train.steps, from the newest checkpoint if there is one. Raises UserError, or Preempted once saved."""
    config = resolve_init(config)
    deepspeed_config(config, launched_world())
    check_micro_batch(config)
    if os.environ.get("RANK", "0") == "0":
        find_origin(config)  # the likeliest mistakes, told before DeepSpeed's import
    with watchdog_of(config).watching() as watch, ExitStack() as stack:
        if watch.rank == 0:  # held before the ranks meet: a second run is refused at once, and one that ends waited for
            _hold(RunFolder.of(config), watch, stack)
        watch.start("the start: meets the other ranks")
        if config.train.deterministic:
            make_deterministic()
        ranks = start_ranks(config.train.threads, watch)
        with ranks.told():
            _pretrain(config, ranks)


def _hold(folder: RunFolder, watch: Watchdog, stack: ExitStack) -> None:
    """Holds the run's folder and its store for this run; UserError where another process has them."""
    elastic = ELASTIC in os.environ
    lock = stack.enter_context(lock_folder(folder.path, ELASTIC_SECONDS if elastic else 0.0))
    watch.on_stop.append(lock.stopping)
    patience = RENEW_SECONDS + STALE_SECONDS if elastic else 0.0
    lease = stack.enter_context(hold_store(folder.store, lambda: watch.ask_to_stop("the store's loss"), patience))
    if lease is not None:
        watch.last_words.append(lambda: lease.release(LAST_RELEASE_SECONDS))


def _pretrain(config: RunConfig, ranks: Ranks) -> None:
    folder, cache = RunFolder.of(config), open_cache(config.data)
    with ranks.together():
        setup_logging(folder, ranks.rank)
        origin = find_origin(config)
    ranks.stop_if_asked()
    ranks.watch.start("the start: checks the data")
    bad = verify_data(origin, ranks, config.data.on_bad_shard)
    ranks.stop_if_asked()
    ranks.watch.start("the start: reads the checkpoint")
    checkpoint = find_resume_point(folder, ranks, cache)
    state = TrainState()
    if checkpoint is not None:
        with ranks.together():
            state, _ = read_state(checkpoint)
            check_same_data(checkpoint, read_json(checkpoint / "manifest.json"), origin)
            check_unchanged(checkpoint, config, state)
    if state.step >= config.train.steps and not owes_evaluation(folder, state, ranks):
        get_logger().info(f"pretrain: {state.step} steps are done already: {checkpoint}")
        return
    ranks.watch.start("the start: finds the micro-batch")
    config = with_micro_batch(config, origin.vocab_size, ranks, folder)
    with ranks.together():
        if ranks.rank == 0:
            write_atomic(folder.config, dump_config(config))
            cut_metrics(folder.metrics, state.step)
        stream = training_stream(config, origin)
    ranks.watch.start("the start: makes the networks and reads the weights")
    engine = Engine(config, origin.vocab_size, ranks, _first_weights(config, folder, origin, ranks, checkpoint))
    if checkpoint is not None:
        state = load_into(engine, checkpoint)
        cache.release_at(checkpoint)
    ranks.stop_if_asked()
    _announce(engine, state, checkpoint)
    if odd := odd_warmup(config):
        get_logger().warning(odd)
    try:
        first, anew = ranks.rank == 0, checkpoint is None
        with start_run(config, "pretrain", folder, _parents(origin), active=first, anew=anew) as tracker:
            tracker.tags({"ranks": str(ranks.world), "zero_stage": str(zero_stage(config))})
            tracker.artifact(folder.config)
            ranks.watch.last_words.append(lambda: tracker.status("KILLED"))
            with ranks.told(), all_metrics(folder.metrics):  # here: MLflow is told of a stop, not of a failure
                run = Run(config, folder, origin, engine, stream, tracker)
                state = with_passed(state, read_rollbacks(folder.path, ranks))
                reached = train(run, leave_out(run, state, bad) if bad else state)
                while isinstance(reached, Rollback):
                    state = go_back(run, reached)
                    reached = train(run, leave_out(run, state, bad) if bad else state)
                state = reached
    except (Preempted, UserError) as error:
        ranks.leave(str(error))
        raise
    ranks.leave()
    get_logger().info(
        f"pretrain: done, {state.step} steps. Metrics in {folder.metrics}, checkpoints in {folder.checkpoints}."
    )


def _first_weights(
    config: RunConfig, folder: RunFolder, origin: Origin, ranks: Ranks, checkpoint: Path | None
) -> Objective | None:
    """The objective filled from init.*, noted in init.json; None where a checkpoint or the seed gives the weights."""
    with ranks.together():
        if checkpoint is not None:
            noted = checkpoint / folder.init.name
            if ranks.rank == 0 and noted.is_file() and not folder.init.exists():  # run_dir is new, beside its store
                write_atomic(folder.init, noted.read_bytes())
            return None
        if not is_continued(config):
            if ranks.rank == 0:
                folder.init.unlink(missing_ok=True)
            return None
        objective, report = initial_objective(config, origin)
        if ranks.rank == 0:
            announce(report)
            write_json(folder.init, report)
        return objective


def _parents(origin: Origin) -> dict[str, str]:
    """Tags that link the MLflow run to what it came from."""
    return {"preprocess_run_id": origin.preprocess_run_id or "", **origin.digests()}


def _announce(engine: Engine, state: TrainState, checkpoint: Path | None) -> None:
    config, ranks = engine.config, engine.ranks
    parameters = sum(math.prod(shape) for shape in engine.shapes.values())
    start = f"going on from {checkpoint}" if checkpoint else "from the start"
    get_logger().info(
        f"pretrain: {config.objective.name}, body {config.model.body}, {parameters:,} parameters; {ranks.world} ranks "
        f"on {ranks.device.type}, ZeRO stage {zero_stage(config)}, {config.train.precision}, "
        f"{torch.get_num_threads()} threads a rank; {start}, step {state.step} of {config.train.steps}"
    )
