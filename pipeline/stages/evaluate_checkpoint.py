"""Stage evaluate on a checkpoint: the validation split, with what each figure means and what is trivially reached."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from model.objectives.base import Objective
from pipeline.base.config import RunConfig
from pipeline.base.corpus_sections import CorpusConfig
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file, write_json
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.progress import Progress
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import start_run
from pipeline.release.refresh import refresh_cards
from pipeline.stream.cache import open_cache
from pipeline.stream.check import check_shards
from pipeline.stream.loader import Array, Rows, TokenStream
from pipeline.tasks.evaluation_table import table, verdict
from pipeline.training.checkpoint import WEIGHTS, TrainState, find_checkpoint, read_checkpoint_config, read_state
from pipeline.training.distributed import thread_count
from pipeline.training.engine_config import micro_size
from pipeline.training.evaluation import evaluate_objective, piece_frequency
from pipeline.training.origin import Origin, find_origin, training_stream
from pipeline.training.ranks import Ranks
from pipeline.training.restore import load_objective

RESULT = "evaluation.json"


class WatchedStream(TokenStream):
    """The validation split; rows that are read advance `progress`."""

    progress: Progress | None = None

    def rows(self, samples: Array) -> Rows:
        """The rows of global samples (n,)."""
        if self.progress is not None:
            self.progress.advance(len(samples))
        return super().rows(samples)


def run(config: RunConfig) -> None:
    """Evaluates, prints the table, writes run_dir/evaluation.json. Same checkpoint and data again: only the table."""
    folder = RunFolder.of(config)
    checkpoint, trained, origin, stream = _find_inputs(config)
    state, _ = read_state(checkpoint)
    facts = _describe(config, checkpoint, state, origin, stream)
    result = folder.path / RESULT
    if (done := _finished(result, facts)) is not None:
        setup_logging(None)
        refresh_cards(folder)
        get_logger().info(f"evaluate is done: {result}")
        return _report(checkpoint, facts, done)
    check_shards(origin.folder.data, origin.manifest.splits["validation"].shards)
    ranks = Ranks(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    torch.set_num_threads(thread_count(config.train.threads))
    objective = load_objective(checkpoint).to(ranks.device)
    setup_logging(folder)
    with start_run(config, "evaluate", folder, _parents(checkpoint, origin)) as tracker:
        figures = _evaluate(objective, trained, origin, stream, facts["sequences"], ranks)
        write_json(result, facts | figures)
        tracker.metrics(state.step, figures)
        tracker.artifact(result)
    refresh_cards(folder)
    _report(checkpoint, facts, figures)
    get_logger().info(f"written: {result}")


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Checks checkpoint and data; what would be evaluated."""
    checkpoint, trained, origin, stream = _find_inputs(config)
    objective, (state, _) = load_objective(checkpoint), read_state(checkpoint)
    sequences, length = min(config.evaluate.sequences, stream.sequences), trained.data.sequence_length
    return [
        ("checkpoint", f"{checkpoint} (step {state.step:,}, {state.tokens:,} tokens seen)"),
        ("objective", f"{trained.objective.name}, body {trained.model.body}"),
        ("parameters", f"{sum(parameter.numel() for parameter in objective.parameters()):,} (shared ones once)"),
        ("data", f"{origin.folder.data}, manifest sha256 {origin.manifest_sha256[:16]}"),
        ("sequences", f"{sequences:,} of {stream.sequences:,} in the validation split, {length} tokens each"),
        ("FLOPs", f"{objective.flops(sequences, length) / 3:.3e} (forward only)"),
        ("result", str(Path(config.run_dir) / RESULT)),
    ]


def _find_inputs(config: RunConfig) -> tuple[Path, RunConfig, Origin, WatchedStream]:
    """Checkpoint, its own config, data and validation stream. Raises UserError where they do not fit each other.

    Sequences are cut, packed and masked as the checkpoint was trained; run_dir, store, data.path and data.revision are
    the command's. Of other data than it was trained on, the corpora are mixed as that data was made.
    """
    folder, cache = RunFolder.of(config), open_cache(config.data)
    checkpoint = find_checkpoint(folder, config.evaluate.checkpoint, cache, (WEIGHTS,))
    trained = read_checkpoint_config(checkpoint)
    revision = config.data.revision or (trained.data.revision if config.data.path is None else None)
    place = {"path": config.data.path or trained.data.path, "revision": revision}
    own = {key: getattr(config.data, key) for key in ("cache", "cache_bytes", "cache_ahead")}
    data = trained.data.model_copy(update=place | own)
    trained = trained.model_copy(update={"run_dir": config.run_dir, "store": config.store, "data": data})
    origin = find_origin(trained)
    digests = read_json(checkpoint / "manifest.json")
    if digests.get("data_manifest_sha256") != origin.manifest_sha256:
        trained = trained.model_copy(update={"corpus": CorpusConfig()})
    wanted, found = digests.get("tokenizer_sha256"), origin.manifest.tokenizer.sha256
    if wanted != found:
        raise UserError(
            f"{checkpoint} was trained with another tokenizer than {origin.folder.data} was made with (sha256 {wanted} "
            f"and {found}): its ids mean other pieces. Set data.path to data of the same tokenizer."
        )
    stream = WatchedStream(origin.folder.data, "validation", trained.data, trained.seed)
    if stream.sequences == 0:
        raise UserError(
            f"the validation split in {origin.folder.data} does not fill one sequence of "
            f"{trained.data.sequence_length} tokens. Preprocess more text, or raise corpus.validation_fraction."
        )
    return checkpoint, trained, origin, stream


def _describe(
    config: RunConfig, checkpoint: Path, state: TrainState, origin: Origin, stream: TokenStream
) -> dict[str, Any]:
    """What the figures are of: they are the same whenever this is."""
    facts = {"checkpoint": checkpoint.name, "sequences": min(config.evaluate.sequences, stream.sequences)}
    facts |= {key: value for key, value in asdict(state).items() if key in ("step", "samples", "tokens", "flops")}
    return facts | {"checkpoint_sha256": sha256_file(checkpoint / "manifest.json"), **origin.digests()}


def _finished(result: Path, facts: dict[str, Any]) -> dict[str, float] | None:
    """The figures of an evaluation of just this; None where there is none, or its file is damaged."""
    try:
        done = read_json(result)
    except UserError:
        return None
    if not isinstance(done, dict) or not done.items() >= facts.items():
        return None
    return {key: value for key, value in done.items() if key not in facts}


def _parents(checkpoint: Path, origin: Origin) -> dict[str, str]:
    """Runs and digests that the evaluation comes from."""
    manifest = checkpoint / "manifest.json"
    runs = {"pretrain_run_id": read_json(manifest).get("mlflow_run_id"), "preprocess_run_id": origin.preprocess_run_id}
    digests = {"checkpoint": checkpoint.name, "checkpoint_sha256": sha256_file(manifest), **origin.digests()}
    return {key: value for key, value in runs.items() if value} | digests


def _evaluate(
    objective: Objective, trained: RunConfig, origin: Origin, stream: WatchedStream, sequences: int, ranks: Ranks
) -> dict[str, float]:
    """Finite figures under eval/."""
    frequency = piece_frequency(training_stream(trained, origin), origin.vocab_size, ranks)
    with Progress(sequences, "sequences", "evaluating") as stream.progress:
        figures = evaluate_objective(objective, stream, sequences, micro_size(trained, 1), ranks, frequency)
    return {f"eval/{name}": value for name, value in figures.items() if math.isfinite(value)}


def _report(checkpoint: Path, facts: dict[str, Any], figures: dict[str, float]) -> None:
    """The table, to the log."""
    named = {name.removeprefix("eval/"): value for name, value in figures.items()}
    head = f"{checkpoint} after {facts['tokens']:,} tokens, on {facts['sequences']:,} validation sequences"
    get_logger().info(f"{head}\n{table(named)}\n{verdict(named)}")
