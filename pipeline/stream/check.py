"""The shards of a data set before anything is trained on them: every digest on this machine, every size in a store.

A store's shards are checked by digest as they are copied (`cache`). Price: every byte of a local shard is read once
(about 1 GB/s a core); a request for each shard of a store.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.base.storage import Location
from pipeline.shards.manifest import ShardEntry, check_sizes, verify_shards


def check_shards(data: Location, entries: Sequence[ShardEntry]) -> None:
    """UserError that names the first shard that is missing or not as its entry says. data: the manifest's folder."""
    if isinstance(data, Path):
        return verify_shards(data, entries)
    check_sizes(data, entries)
