"""train.micro_batch_size: auto. The most sequences that one forward takes in the memory at hand, found once a run.

On a card forward and backward are tried with rows that are one document each, the most that attention can have to do,
uncompiled; what DeepSpeed adds is reckoned. On a CPU, where too much memory ends the process instead of an attempt, all
of it is reckoned (memory.py). Price on a card: some seconds at the first start. What was found is kept in
run_dir/micro_batch.json, and taken again for the same setting.
"""

import gc
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
from pipeline.planning.memory import memory_of, sharding_of
from pipeline.planning.micro import micro_of, one_document_a_row, random_rows, with_rows
from pipeline.training.distributed import local_world
from pipeline.training.engine_config import largest_share, zero_stage
from pipeline.training.precision import make_objective
from pipeline.training.ranks import Ranks
from pipeline.training.step import to_device

PART = 0.85
"""Of the free memory: what is reckoned is within a tenth of what is measured (docs/planning.md)."""
Fits = Callable[[int], bool]
"""Whether so many rows fit."""


def check_micro_batch(config: RunConfig) -> None:
    """UserError where auto cannot be found."""
    if config.train.micro_batch_size != "auto":
        return
    why = None
    if config.train.compile == "graphs":
        why = "train.compile graphs, which keep memory of their own"
    elif zero_stage(config) == 3 and torch.cuda.is_available():
        why = "deepspeed.zero_optimization.stage 3 on a GPU, where the tries would need whole weights"
    if why is not None:
        raise UserError(f"train.micro_batch_size auto does not go with {why}. Set a number.")


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
            own = _found(config, vocab_size, ranks, share)
        largest = ranks.least(own)
    size = -(-share // -(-share // largest))
    with ranks.together():
        if ranks.rank == 0:
            write_json(folder.micro_batch, {"largest": largest, "micro_batch_size": size, "setting": setting})
    get_logger().info(
        f"pretrain: train.micro_batch_size auto: {largest} of a rank's {share} sequences fit at once, "
        f"{'as found before' if kept else 'found now'}; taken {size} at a time"
    )
    return with_rows(config, size)


def largest_fit(fits: Fits, most: int) -> int:
    """The largest number of rows up to `most` that fits, 0 for none; whatever fits, so does less of it."""
    if fits(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def reckoned_fit(config: RunConfig, vocab_size: int, world: int, memory: float, by_hand: bool = True) -> Fits:
    """Whether a rank with this memory, in bytes, holds so many rows, by memory.py; by_hand: on a CPU."""
    nets = nets_of(config.objective.name, config.model, vocab_size)
    share, seq = largest_share(config.train.batch_size, world), config.data.sequence_length

    def fits(rows: int) -> bool:
        sharding = sharding_of(config, world, parameters(nets), micro_steps=-(-share // rows))
        found = memory_of(nets, micro_of(config, one_document_a_row(rows, seq), by_hand), sharding)
        return found.total - (0.0 if by_hand else found.saves) <= memory

    return fits


def _found(config: RunConfig, vocab_size: int, ranks: Ranks, share: int) -> int:
    """This rank's number. UserError where nothing fits."""
    free = _free(ranks)
    if ranks.device.type == "cuda":
        fits = tried_fit(config, vocab_size, ranks, free)
    else:
        fits = reckoned_fit(config, vocab_size, ranks.world, free)
    largest = largest_fit(fits, share)
    if largest == 0:
        raise UserError(
            f"train.micro_batch_size auto: not even one sequence of {config.data.sequence_length} tokens fits in the "
            f"{free / 1e9:.1f} GB that rank {ranks.rank} may take. Take a shorter data.sequence_length, "
            "train.recompute=true, a smaller model or a higher ZeRO stage."
        )
    return largest


def tried_fit(config: RunConfig, vocab_size: int, ranks: Ranks, free: float) -> Fits:
    """The same by trying, on this rank's card."""
    nets = nets_of(config.objective.name, config.model, vocab_size)
    share, seq = largest_share(config.train.batch_size, ranks.world), config.data.sequence_length
    # Weights and gradients are measured with the tries; the rest does not depend on their rows.
    sharding = sharding_of(config, ranks.world, parameters(nets))
    state = memory_of(nets, micro_of(config, one_document_a_row(1, seq), by_hand=False), sharding)
    offload = config.deepspeed.get("zero_optimization", {}).get("offload_optimizer")
    left = free - state.buffers - (0.0 if offload else state.moments + state.masters)
    objective = make_objective(config, vocab_size).to(ranks.device)
    if config.train.recompute:
        objective.recompute()

    def fits(rows: int) -> bool:
        try:
            return taken_on_card(objective, rows, seq, vocab_size, ranks.device, 1 + (rows < share)) <= left
        except torch.OutOfMemoryError:
            return False
        finally:
            objective.zero_grad()
            gc.collect()
            torch.cuda.empty_cache()

    return fits


def taken_on_card(
    objective: Objective, rows: int, seq: int, vocab_size: int, device: torch.device, micro_steps: int
) -> int:
    """Most bytes of the card that forward and backward over so many rows hold, the weights included.

    micro_steps: 2 where an update has more than one: the gradients of the first are held during the second.
    """
    torch.cuda.reset_peak_memory_stats(device)
    batch, _ = to_device(random_rows(rows, seq, vocab_size), device)
    for _ in range(micro_steps):
        loss, _ = objective(batch, objective.counts(batch))
        loss.backward()
    return torch.cuda.max_memory_reserved(device)


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
        "ranks_a_host": local_world(),
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
    return PART * free / local_world()
