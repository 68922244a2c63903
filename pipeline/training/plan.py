"""What --dry-run prints: sizes, memory, cost and data of a run, checked as the run checks them, without starting it."""

import torch

from pipeline.base.config import RunConfig
from pipeline.base.files import read_json
from pipeline.base.run_folder import RunFolder
from pipeline.shards.manifest import all_shards
from pipeline.stream.cache import open_cache
from pipeline.stream.check import check_shards
from pipeline.stream.corpora import corpora_of
from pipeline.stream.loader import TokenStream
from pipeline.training.checkpoint import newest_whole, read_state
from pipeline.training.distributed import launched_world
from pipeline.training.engine_config import (
    check_zero_block,
    deepspeed_config,
    largest_share,
    micro_size,
    micro_steps,
    zero_stage,
)
from pipeline.training.engine_state import KINDS
from pipeline.training.initial import initial_objective, is_continued, told
from pipeline.training.origin import Origin, find_origin, training_stream
from pipeline.training.precision import make_objective
from pipeline.training.resume import check_place, check_same_data, check_unchanged
from pipeline.training.schedule import odd_warmup
from pipeline.training.tensor_file import ELEMENT

GIB = 2**30


def bytes_a_rank(parameters: int, stage: int, world: int, precision: str) -> dict[str, float]:
    """Bytes of one rank's weights, gradients and optimizer, without activations (Rajbhandari et al. 2020, section 3).

    fp32 and bf16 hold weights and gradients in fp32; from stage 1 on DeepSpeed keeps a second, flat copy as masters.
    """
    size = 2 if precision == "fp16" else 4
    weights = size * parameters / (world if stage == 3 else 1)
    gradients = size * parameters / (world if stage >= 2 else 1)
    masters = 4 * parameters if stage >= 1 or precision == "fp16" else 0
    optimizer = (8 * parameters + masters) / (world if stage >= 1 else 1)
    return {"weights": weights, "gradients": gradients, "optimizer": optimizer}


def bytes_for_saves(parameters: int, world: int) -> float:
    """Bytes of one rank's host memory that a save in the background is copied to, held from the run's start on.

    fp32 weights and both moments, of which each rank holds its part at every ZeRO stage (snapshot.py).
    """
    return ELEMENT * len(KINDS) * parameters / world


def plan_pretraining(config: RunConfig) -> list[tuple[str, str]]:
    """Label and value, a line each. Raises UserError for whatever would stop the run at its start."""
    world, stage, train = launched_world(), zero_stage(config), config.train
    deepspeed_config(config, world)
    check_zero_block(config)
    origin = find_origin(config)
    check_shards(origin.folder.data, all_shards(origin.manifest))
    start = _starting_point(config, origin)
    stream = training_stream(config, origin)
    validation = TokenStream(origin.folder.data, "validation", config.data, config.seed)
    given = told(initial_objective(config, origin)[1]) if start == "from given weights" else []
    with torch.device("meta"):  # shapes alone: no memory, and no time for drawing the initial weights
        objective = make_objective(config, origin.vocab_size)
    parameters = sum(parameter.numel() for parameter in objective.parameters())
    lines = [
        ("run folder", config.run_dir),
        *([("store", config.store)] if config.store else []),
        ("starts", start),
        *given,
        ("data", f"{origin.folder.data}, manifest sha256 {origin.manifest_sha256[:16]}"),
    ]
    for name, split in origin.manifest.splits.items():
        sizes = f"{split.blocks:,} blocks, {split.tokens:,} tokens, {split.documents:,} documents"
        lines.append((f"{name} split", f"{len(split.shards):,} shards, {sizes}"))
    lines += [("vocabulary", f"{origin.vocab_size:,} pieces"), ("parameters", f"{parameters:,} (shared ones once)")]
    for name, network in objective.networks().items():
        lines.append((f"  {name}", f"{sum(p.numel() for p in network.parameters()):,} (shared ones included)"))
    memory = bytes_a_rank(parameters, stage, world, train.precision)
    shown = ", ".join(f"{name} {size / GIB:.3f} GiB" for name, size in memory.items())
    flops = objective.flops(train.batch_size, config.data.sequence_length)
    lines += [
        ("ranks", f"{world}, ZeRO stage {stage}, {train.precision}"),
        ("bytes a rank", f"{sum(memory.values()) / GIB:.3f} GiB and activations: {shown}"),
        ("  for saves", f"{bytes_for_saves(parameters, world) / GIB:.3f} GiB of host memory: a copy of the state"),
        ("batch", f"{train.batch_size} sequences, {_share_told(config, world)} a rank"),
        ("FLOPs a step", f"{flops:.3e}"),
        ("FLOPs in all", f"{flops * train.steps:.3e}"),
        *_epochs_told(config, stream),
        ("learning rate", _rates_told(config)),
        ("evaluation", f"{min(validation.sequences, train.eval_sequences):,} of {validation.sequences:,} sequences"),
    ]
    return lines


def _epochs_told(config: RunConfig, stream: TokenStream) -> list[tuple[str, str]]:
    """How often the run passes through its data, or through each corpus of a mixture."""
    train, length = config.train, config.data.sequence_length
    if stream.shares.places:
        epochs = stream.epochs(train.steps * train.batch_size)
        lines = [("steps", f"{train.steps:,}"), ("corpora", f"mixed {stream.shares.told}")]
        for (name, entry), part in zip(corpora_of(stream.manifest).items(), stream.parts, strict=True):
            share, sequences = stream.shares.fraction(name), part.order.sequences
            seen = f"{share:.4f} of the sequences, {epochs[name]:,.2f} epochs of {sequences:,} sequences of {length}"
            lines.append((f"  {name}", f"{entry.tokens:,} tokens, {seen}"))
        return lines
    epoch = stream.sequences / train.batch_size
    return [
        ("an epoch", f"{stream.sequences:,} sequences of {length}, {epoch:,.1f} steps"),
        ("steps", f"{train.steps:,}, {train.steps / epoch:,.2f} epochs"),
    ]


def _share_told(config: RunConfig, world: int) -> str:
    """How a rank's share is cut."""
    if config.train.micro_batch_size == "auto":
        return f"{largest_share(config.train.batch_size, world)}, as many at a time as fit,"
    return f"{micro_steps(config, world)} x {micro_size(config, world)}"


def _rates_told(config: RunConfig) -> str:
    """Peak and warm-up, and what is odd about them."""
    warmup = config.schedule.warmup_steps
    return f"peak {config.optimizer.lr:g}, warm-up {warmup:,} steps" + (
        f" ({odd})" if (odd := odd_warmup(config)) else ""
    )


def _starting_point(config: RunConfig, origin: Origin) -> str:
    """Where the run would go on; UserError where its checkpoint does not fit the config or the data."""
    folder = RunFolder.of(config)
    checkpoint = newest_whole(folder, open_cache(config.data), kinds=())
    if checkpoint is None:
        check_place(folder)
        return "from given weights" if is_continued(config) else "from the start"
    state, _ = read_state(checkpoint)
    check_same_data(checkpoint, read_json(checkpoint / "manifest.json"), origin)
    check_unchanged(checkpoint, config, state)
    return f"at step {state.step:,}, from {checkpoint}"
