"""Shards that turn out bad while they are read: tried again with pauses, then told by name; `skip` leaves them out.

A sequence that lies in a shard left out is replaced by one near it in the order, drawn from (seed, its number) alone:
the same on any number of ranks, and places stay arithmetic. Price: the replacing sequences are seen once more.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from pipeline.base.errors import Damaged, UserError
from pipeline.base.log import get_logger
from pipeline.shards.manifest import ShardEntry
from pipeline.stream.order import Array, Order
from pipeline.stream.segments import mixed

T = TypeVar("T")
TRIES = 64
"""Draws for a sequence in place of one that cannot be read; each finds one in at least half of the cases."""

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a shard that could not be read is tried again: a network file system may be away for a moment."""


class BadShard(Damaged):
    """A shard that is missing, or not what was written, after all tries."""

    def __init__(self, message: str, shard: str, *, tried: bool = False) -> None:
        super().__init__(message)
        self.shard, self.tried = shard, tried
        """Its name, as the manifest lists it; whether a store was waited for already."""


def with_patience(read: Callable[[], T]) -> T:
    """What `read` returns; after a BadShard it is called again, once after each of PAUSES."""
    for pause in PAUSES:
        try:
            return read()
        except BadShard as error:
            if error.tried:
                raise
            get_logger().warning(f"{error} Trying again in {pause:g} seconds.")
            time.sleep(pause)
    return read()


class Gaps:
    """The shards of a split that are left out, and which sequences are read in place of theirs."""

    def __init__(self, order: Order, shards: Sequence[ShardEntry]) -> None:
        self.order, self.shards = order, shards
        self.bad = np.zeros(len(shards), bool)

    def add(self, names: Sequence[str]) -> None:
        """Leaves these out, those of other splits passed over. UserError when more than half of the tokens were."""
        bad = self.bad | np.array([shard.name in names for shard in self.shards], bool)
        tokens = np.array([shard.tokens for shard in self.shards], np.int64)
        if 2 * int(tokens[bad].sum()) > int(tokens.sum()):
            told = ", ".join(shard.name for shard, is_bad in zip(self.shards, bad, strict=True) if is_bad)
            raise UserError(
                f"more than half of the data cannot be read: {told}. data.on_bad_shard skip leaves out no more: copy "
                "the shards again from where the data was made, then start the same command again."
            )
        self.bad = bad

    def filled(self, own: Array) -> Array:
        """The split's sequences own (n,), each in a shard left out replaced by one that follows soon.

        Drawn within a buffer's length behind it, then within twice that, and so on: mostly of blocks that are open.
        """
        if not self.bad.any():
            return own
        found = own.copy()
        reach = self.order.buffer * self.order.per_block
        for attempt in range(TRIES):
            wrong = np.flatnonzero(self.bad[self.order.locate(found).shard])
            if not wrong.size:
                return found
            draws = mixed(own[wrong] * TRIES + attempt, self.order.seed)
            found[wrong] = own[wrong] + 1 + (draws % np.uint64(reach)).astype(np.int64)
            reach = min(2 * reach, 4 * self.order.sequences + 1)
        raise UserError("no sequence was found in place of one in a shard that cannot be read: copy the shards again.")
