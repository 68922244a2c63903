"""The micro-batch of a config: what its attention works on, from rows of the data or from an assumption."""

import torch
from torch import Tensor

from model.config import SPECIAL_IDS
from model.objectives.base import Batch
from model.paths import by_float32
from model.tiles import tiles_of
from pipeline.base.config import RunConfig
from pipeline.planning.counts import Micro, Seen, masked_places


def seen_in(groups: Tensor, window: int | None) -> Seen:
    """groups (rows, seq): tokens of one number attend to each other; window: see attention.attention_bias."""
    tiles = tiles_of(groups, window)
    pairs = sum(
        (tile.rows.stop - tile.rows.start)
        * (tile.queries.stop - tile.queries.start)
        * (tile.keys.stop - tile.keys.start)
        for tile in tiles
    )
    return Seen(pairs, len(tiles))


def one_document_a_row(rows: int, seq: int) -> Tensor:
    """The most that attention can have to do."""
    return torch.zeros(rows, seq, dtype=torch.int64)


def with_rows(config: RunConfig, rows: int) -> RunConfig:
    """The config with this micro-batch."""
    return config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": rows})})


def random_rows(rows: int, seq: int, vocab_size: int) -> Batch:
    """Rows of one document each, of any pieces."""
    return Batch(torch.randint(len(SPECIAL_IDS), vocab_size, (rows, seq)), torch.arange(rows))


def micro_of(config: RunConfig, groups: Tensor, by_hand: bool = True) -> Micro:
    """groups (rows, seq): documents of a micro-batch's rows."""
    rows, seq = groups.shape
    if by_hand:
        everywhere = seen_in(groups, None)
        modern = config.model.body == "modernbert"
        nearby = seen_in(groups, config.model.local_window // 2) if modern else everywhere
    else:  # the kernel works on whole rows
        everywhere = nearby = Seen(rows * seq * seq, rows)
    low = config.train.precision != "fp32"
    return Micro(
        rows=rows,
        seq=seq,
        masked=masked_places(rows, seq, config.objective.mask_fraction),
        everywhere=everywhere,
        nearby=nearby,
        compute=2 if low else 4,
        by_hand=by_hand,
        weights_copied=low and not (by_hand and by_float32(torch.bfloat16)),
        recompute=config.train.recompute,
    )
