"""train.micro_batch_size: auto. The most sequences that one forward takes in the memory at hand, found once a run.

On a card forward and backward are tried with rows that are one document each, the most that attention can have to do;
what DeepSpeed adds is reckoned. On a CPU, where too much memory ends the process instead of an attempt, all of it is
reckoned (memory.py). Price on a card: some seconds at the first start; and the tries are not compiled, so that they
take more memory than a compiled step. What was found is kept in run_dir/micro_batch.json, and taken again for the same
setting.
"""

import gc
import os
from collections.abc import Callable
from typing import Any

import torch

from model.objectives.base import Objective
from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, write_json
from pipeline.base.free_memory import free_memory
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.planning.counts import nets_of, parameters
from pipeline.planning.memory import Sharding, memory_of
from pipeline.planning.micro import micro_of, one_document_a_row, random_rows
from pipeline.training.engine_config import LARGEST_BUCKET, largest_share, zero_stage
from pipeline.training.precision import make_objective
from pipeline.training.ranks import Ranks
from pipeline.training.step import to_device

PART = 0.9
"""Of the free memory: the reckoning is within a tenth of what is measured (docs/planning.md)."""
Fits = Callable[[int], bool]
"""Whether so many rows fit."""


def with_micro_batch(config: RunConfig, vocab_size: int, ranks: Ranks, folder: RunFolder) -> RunConfig:
    """The config with a number where it says auto, the same on every rank. Collective.

    The share is cut into as few equal parts as fit. UserError where not even one row does.
    """
    if config.train.micro_batch_size != "auto":
        return config
    share = largest_share(config.train.batch_size, ranks.world)
    setting = _setting(config, vocab_size, ranks)
    with ranks.together():
        kept = _kept(folder, setting) if ranks.rank == 0 else None
    largest = ranks.from_first(kept)
    if largest is None:
        with ranks.together():
            free = _free(ranks)
            own = largest_fit(_fits(config, vocab_size, ranks, free), share)
        largest = ranks.least(own)
        if largest == 0:
            raise UserError(
                f"train.micro_batch_size auto: not even one sequence of {config.data.sequence_length} tokens fits in "
                f"the {free / 1e9:.1f} GB that a rank has. Take a shorter data.sequence_length, train.recompute=true, "
                "a smaller model or a higher ZeRO stage."
            )
    size = -(-share // -(-share // largest))
    with ranks.together():
        if ranks.rank == 0:
            write_json(folder.micro_batch, {"largest": largest, "micro_batch_size": size, "setting": setting})
    get_logger().info(
        f"pretrain: train.micro_batch_size auto: {largest} of a rank's {share} sequences fit at once, "
        f"{'as found before' if kept else 'found now'}; taken {size} at a time"
    )
    return config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": size})})


def largest_fit(fits: Fits, most: int) -> int:
    """The largest number of rows up to `most` that fits, 0 for none; whatever fits, so does less of it."""
    if fits(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _setting(config: RunConfig, vocab_size: int, ranks: Ranks) -> dict[str, Any]:
    """What the number depends on."""
    card = torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else ranks.device.type
    values = config.to_dict()
    return {
        **{name: values[name] for name in ("model", "objective", "deepspeed")},
        **{name: values["train"][name] for name in ("batch_size", "precision", "recompute")},
        "sequence_length": config.data.sequence_length,
        "vocab_size": vocab_size,
        "ranks": ranks.world,
        "device": card,
    }


def _kept(folder: RunFolder, setting: dict[str, Any]) -> int | None:
    """What was found for this setting before."""
    if not folder.micro_batch.is_file():
        return None
    before = read_json(folder.micro_batch)
    return int(before["largest"]) if before.get("setting") == setting else None


def _free(ranks: Ranks) -> float:
    """Bytes that this rank may take."""
    if ranks.device.type == "cuda":
        return PART * torch.cuda.mem_get_info(ranks.device)[0]
    free = free_memory()
    if free is None:
        raise UserError("train.micro_batch_size auto: this system does not tell how much memory is free. Set a number.")
    return PART * free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _fits(config: RunConfig, vocab_size: int, ranks: Ranks, free: float) -> Fits:
    stage, seq = zero_stage(config), config.data.sequence_length
    nets = nets_of(config.objective.name, config.model, vocab_size)
    bucket = int(config.deepspeed.get("zero_optimization", {}).get("reduce_bucket_size", LARGEST_BUCKET))
    sharding = Sharding(stage, ranks.world, config.train.precision, min(bucket, parameters(nets)))
    if ranks.device.type != "cuda":
        return lambda rows: memory_of(nets, micro_of(config, one_document_a_row(rows, seq)), sharding).total <= free
    if stage == 3:
        raise UserError(
            "train.micro_batch_size auto does not go with deepspeed.zero_optimization.stage 3 on a GPU: the tries need "
            "whole weights there. Set a number."
        )
    # Weights and gradients are measured with the tries; the rest does not depend on their rows.
    state = memory_of(nets, micro_of(config, one_document_a_row(1, seq), by_hand=False), sharding)
    left = free - state.moments - state.masters - state.buffers
    objective = make_objective(config, vocab_size).to(ranks.device)
    if config.train.recompute:
        objective.recompute()

    def fits(rows: int) -> bool:
        try:
            return taken_on_card(objective, rows, seq, vocab_size, ranks.device) <= left
        except torch.OutOfMemoryError:
            return False
        finally:
            objective.zero_grad()
            gc.collect()
            torch.cuda.empty_cache()

    return fits


def taken_on_card(objective: Objective, rows: int, seq: int, vocab_size: int, device: torch.device) -> int:
    """Most bytes of the card that are held in a forward and backward over this many rows, the weights included."""
    torch.cuda.reset_peak_memory_stats(device)
    batch, _ = to_device(random_rows(rows, seq, vocab_size), device)
    loss, _ = objective(batch, objective.counts(batch))
    loss.backward()
    return torch.cuda.max_memory_reserved(device)
