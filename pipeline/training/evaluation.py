"""Evaluation on a split, shared by pretraining and the evaluate stage: sums over ranks first, means last.

The rows and their masks are the same at every evaluation and on any number of ranks.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.objectives.base import Objective
from pipeline.base.config import RunConfig
from pipeline.base.log import get_logger
from pipeline.stream.loader import TokenStream
from pipeline.stream.order import share
from pipeline.training.ranks import Ranks
from pipeline.training.step import add, micro_batches, to_batch, to_device

ASKED_EVERY = 4
"""Micro-batches between two questions whether any rank was asked to stop."""
FREQUENCY_SEQUENCES = 4096
"""Sequences of the training split whose pieces are counted for the baselines."""


class Abandoned(Exception):
    """The evaluation was given up, on all ranks, because one was asked to stop."""


def validation_stream(config: RunConfig, data: Path) -> TokenStream | None:
    """The validation split, mixed (an evaluation takes its first sequences); None, and a warning, when it has none."""
    stream = TokenStream(data, "validation", config.data, config.seed)
    if stream.sequences == 0:
        get_logger().warning(
            f"the validation split in {data} does not fill one sequence of {config.data.sequence_length} tokens: "
            "nothing is evaluated. Preprocess more text, or raise corpus.validation_fraction."
        )
        return None
    return stream


def evaluate_objective(
    objective: Objective,
    stream: TokenStream,
    sequences: int,
    micro_batch: int,
    ranks: Ranks,
    frequency: Tensor | None,
) -> dict[str, float]:
    """Objective.metrics over the first `sequences` sequences (or all there are). Collective.

    objective: in eval mode, on ranks.device; frequency (vocab,): see `piece_frequency`. Names carry no "eval/" yet.
    Raises Abandoned on all ranks, soon, once any was asked to stop.
    """
    sequences = min(sequences, stream.sequences)
    mine = np.asarray(share(sequences, ranks.rank, ranks.world), np.int64)
    count = -(-len(share(sequences, 0, ranks.world)) // micro_batch)  # the same on every rank: the first has the most
    sums: dict[str, Tensor] = {}
    place = ranks.watch.place
    with torch.no_grad():
        for part in range(count):
            ranks.watch.beat(f"{place}, part {part + 1} of {count}")
            if part % ASKED_EVERY == 0 and ranks.agreed_to_stop():
                raise Abandoned
            rows = mine[part * micro_batch : (part + 1) * micro_batch]
            weight = float(len(rows) > 0)  # a rank without rows still names the sums that all ranks add up
            found = ranks.attempt(partial(stream.rows, rows if weight else np.zeros(1, np.int64)))
            if found is not None:  # else all ranks are told by the next `agreed_to_stop`
                batch, stretches = to_device(to_batch(found), ranks.device)
                ((batch, _),) = micro_batches(batch, len(batch.sample), 1, stretches)
                sums = add(sums, objective.evaluate(batch, frequency), weight)
        if ranks.agreed_to_stop():
            raise Abandoned
    return objective.metrics(ranks.sum(sums), training=False)


def piece_frequency(stream: TokenStream, vocab_size: int, ranks: Ranks) -> Tensor:
    """(vocab,) float64 counts of the pieces in the first FREQUENCY_SEQUENCES training sequences. Collective."""
    mine = np.asarray(share(min(FREQUENCY_SEQUENCES, stream.sequences), ranks.rank, ranks.world), np.int64)
    with ranks.together():
        counts = np.bincount(stream.readable(mine).ids.reshape(-1), minlength=vocab_size)
    return ranks.sum({"pieces": torch.from_numpy(counts)})["pieces"]
