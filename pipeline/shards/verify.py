"""`verify`: every byte of every shard against the manifest, and every block against the format.

The first bad shard, in the manifest's order, is named whatever the number of threads; reading ends there. Price: all
bytes are read once (a thread a shard); of a store they travel once.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline.base.errors import UserError
from pipeline.base.progress import Progress
from pipeline.base.run_folder import tokenizer_file
from pipeline.base.storage import facts_of, reading
from pipeline.shards.dataset import MANIFEST, DataSet, Shard, is_unfinished, older_shards, unlisted
from pipeline.shards.manifest import check_tokenizer
from pipeline.shards.sound import ShardSums, check_shard


class _Stopped(Exception):
    """Another shard was bad."""


def verify(dataset: DataSet, jobs: int) -> str:
    """Checks everything; what to say of it. UserError for the first thing that is wrong."""
    manifest = dataset.manifest
    shards = [*dataset.shards]
    if manifest is not None and dataset.whole:
        shards += older_shards(dataset.data, manifest)
        _check_tokenizer(dataset)
    sums = list(_checked(shards, dataset, jobs))
    if manifest is not None and dataset.whole:
        extra = unlisted(dataset.data, manifest)
        if extra:
            more = f" and {len(extra) - 1:,} more" if len(extra) > 1 else ""
            advice = "Remove what does not belong there."
            if is_unfinished(dataset.data):
                advice = "An unfinished run of preprocessing is there: start it again, and verify when it has ended."
            raise UserError(
                f"{dataset.data / extra[0]}{more}: no revision of {dataset.data / MANIFEST} names it. {advice}"
            )
    blocks, size = sum(found.blocks for found in sums), sum(found.bytes for found in sums)
    told = f"{dataset.data}: {len(sums):,} shards, {blocks:,} blocks, {size:,} bytes"
    if manifest is None:
        return f"{told}: sound as shards; without a {MANIFEST} there are no digests to compare"
    part = "" if dataset.whole else ", a part of the data set"
    return f"{told}{part}: as they were written, every digest and every block"


def _check_tokenizer(dataset: DataSet) -> None:
    """The tokenizer beside the data, where there is one, is the data's."""
    from pipeline.vocabulary.reading import load_codec  # late: heavy

    assert dataset.manifest is not None
    file = tokenizer_file(dataset.data.parent)  # type: ignore[arg-type]  # a UPath has the methods of a Path
    with reading(file):
        if not file.exists():
            return
    codec = load_codec(file)
    check_tokenizer(dataset.manifest, codec.sha256, codec.vocab_size, str(file))


def _checked(shards: list[Shard], dataset: DataSet, jobs: int) -> Iterator[ShardSums]:
    """The sums of each shard, in order. Stops all threads at the first that is bad."""
    stop = threading.Event()
    lock = threading.Lock()
    total = sum(shard.entry.bytes if shard.entry is not None else _size(shard) for shard in shards)
    with Progress(total, "bytes", "verify") as progress, ThreadPoolExecutor(jobs) as pool:

        def seen(count: int) -> None:
            if stop.is_set():
                raise _Stopped
            with lock:
                progress.advance(count)

        waiting = [pool.submit(check_shard, shard, dataset, seen) for shard in shards]
        try:
            for future in waiting:
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _size(shard: Shard) -> int:
    return facts_of(shard.place).size
