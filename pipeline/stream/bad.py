"""Shards that turn out bad while they are read: tried again with pauses, then told by name; `skip` leaves them out.

A sequence that lies in a shard left out is replaced by one near it in the order, drawn from (seed, its number) alone:
the same on any number of ranks, and places stay arithmetic. Price: the replacing sequences are seen once more.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.base.errors import Damaged
from pipeline.base.log import get_logger

T = TypeVar("T")

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a shard that could not be read is tried again: a network file system may be away for a moment."""


class BadShard(Damaged):
    """A shard that is missing, or not what was written, after all tries."""

    def __init__(self, message: str, shard: str) -> None:
        super().__init__(message)
        self.shard = shard
        """Its name, as the manifest lists it."""


def with_patience(read: Callable[[], T]) -> T:
    """What `read` returns; after a BadShard it is called again, once after each of PAUSES."""
    for pause in PAUSES:
        try:
            return read()
        except BadShard as error:
            get_logger().warning(f"{error} Trying again in {pause:g} seconds.")
            time.sleep(pause)
    return read()
