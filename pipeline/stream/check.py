"""The shards of a data set before anything is trained on them: every digest on this machine, every size in a store.

A store's shards are checked by digest as they are copied (`cache`). Price: every byte of a local shard is read once
(about 1 GB/s a core); a request for each shard of a store.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.storage import Location
from pipeline.base.stores.faults import StoreAway
from pipeline.shards.manifest import ShardEntry, check_sizes, verify_shards
from pipeline.stream.bad import BadShard, with_patience


def check_shards(data: Location, entries: Sequence[ShardEntry]) -> None:
    """UserError that names the first shard that is missing or not as its entry says. data: the manifest's folder."""
    if isinstance(data, Path):
        return verify_shards(data, entries)
    check_sizes(data, entries)


def bad_shards(data: Location, entries: Sequence[ShardEntry]) -> Iterator[BadShard]:
    """Each shard that is missing or not as its entry says, after all tries. UserError where a store stays away."""
    for entry in entries:
        try:
            with_patience(lambda entry=entry: _check(data, entry))  # type: ignore[misc]
        except BadShard as error:
            yield error


def _check(data: Location, entry: ShardEntry) -> None:
    try:
        check_shards(data, [entry])
    except StoreAway:
        raise
    except UserError as error:
        raise BadShard(str(error), entry.name, tried=not isinstance(data, Path)) from None
