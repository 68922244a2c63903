"""The shards of a data set before anything is trained on them: every digest on this machine, every size in a store.

A store's shards are checked by digest as they are copied (`cache`). Price: every byte of a local shard is read once
(about 1 GB/s a core); a request for each shard of a store.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.storage import Location, facts_of
from pipeline.shards.manifest import ShardEntry, verify_shards

REQUESTS = 16
"""On their way at a time."""


def check_shards(data: Location, entries: Sequence[ShardEntry]) -> None:
    """UserError that names the first shard that is missing or not as its entry says. data: the manifest's folder."""
    if isinstance(data, Path):
        return verify_shards(data, entries)
    with ThreadPoolExecutor(REQUESTS) as pool:
        sizes = pool.map(lambda entry: facts_of(data / entry.name).size, entries)
        for entry, size in zip(entries, sizes, strict=True):
            if size != entry.bytes:
                raise UserError(
                    f"shard {data / entry.name} is broken: {size:,} bytes, the manifest says {entry.bytes:,}. Copy it "
                    "again from where the data was made, or make the data anew."
                )
