"""`ls` and `stat`: what a data set holds, by its manifest, and by all of its tokens.

Price: `ls` reads the manifest alone (of shards without one, everything); `stat` reads all shards, or so many of each
split, spread evenly, a thread a shard.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from model.config import MASK_ID, SEP_ID, UNK_ID
from pipeline.base.errors import UserError
from pipeline.base.progress import Progress
from pipeline.base.storage import facts_of
from pipeline.shards.block import Array
from pipeline.shards.dataset import DataSet, Shard
from pipeline.shards.sound import blocks_of, check_shard

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
FREQUENT = 20


def listing(dataset: DataSet) -> dict[str, Any]:
    """What `ls` tells: splits and their shards, with counts, bytes and digests."""
    manifest = dataset.manifest
    about: dict[str, Any] = {"data": str(dataset.data)}
    if manifest is not None:
        about |= manifest.model_dump(mode="json", include={"version", "block_tokens", "dtype", "tokenizer", "corpus"})
    splits: dict[str, Any] = {}
    for shard in dataset.shards:
        sums = shard.entry.model_dump() if shard.entry is not None else asdict(check_shard(shard, dataset))
        splits.setdefault(shard.split, []).append(sums | {"name": shard.name})
    names = ("blocks", "tokens", "documents", "bytes")
    totals = {split: {name: sum(row[name] for row in rows) for name in names} for split, rows in splits.items()}
    about["splits"] = {split: totals[split] | {"shards": rows} for split, rows in splits.items()}
    return about


class _Counts(NamedTuple):
    """Of one shard. starts (documents,) int64: places among its tokens; pieces (ids,) int64: how often each occurs."""

    first_block: int
    blocks: int
    tokens: int
    padding: int
    starts: Array
    pieces: Array
    ended: bool
    """Whether its last token ends a document."""


def statistics(dataset: DataSet, most: int | None, jobs: int, pieces: Sequence[str] | None) -> dict[str, Any]:
    """What `stat` tells, by split. most: shards to read of each split; pieces: the tokenizer's, None where unknown."""
    chosen = {split: _spread(dataset.of(split).shards, most) for split in dataset.splits}
    total = sum(facts_of(shard.place).size for shards in chosen.values() for shard in shards)
    with Progress(total, "bytes", "stat") as progress, ThreadPoolExecutor(jobs) as pool:
        found: dict[str, Any] = {}
        for split, shards in chosen.items():
            counts = []
            for shard, one in zip(shards, pool.map(_count, shards), strict=True):
                progress.advance(facts_of(shard.place).size)
                counts.append(one)
            part = {"shards": len(shards), "of_shards": len(dataset.of(split).shards)}
            found[split] = part | _summed(counts, pieces)
    return found


def _spread(shards: Sequence[Shard], most: int | None) -> list[Shard]:
    if most is None or most >= len(shards):
        return list(shards)
    return [shards[number * len(shards) // most] for number in range(most)]


def _count(shard: Shard) -> _Counts:
    pieces = np.zeros(0, np.int64)
    starts = []
    first = blocks = tokens = padding = 0
    ended = False
    for block in blocks_of(shard):
        first = first if blocks else block.number
        found = np.bincount(block.ids, minlength=len(pieces))
        found[: len(pieces)] += pieces
        pieces = found
        starts.append(block.documents.astype(np.int64) + tokens)
        blocks += 1
        tokens += len(block.ids)
        padding += block.padding
        ended = bool(block.ids[-1] == SEP_ID)
    if not blocks:
        raise UserError(f"shard {shard.place} has no blocks. Copy it again from where the data was made.")
    return _Counts(first, blocks, tokens, padding, np.concatenate(starts), pieces, ended)


def _summed(counts: Sequence[_Counts], pieces: Sequence[str] | None) -> dict[str, Any]:
    tokens, padding = sum(count.tokens for count in counts), sum(count.padding for count in counts)
    frequencies = np.zeros(max(len(count.pieces) for count in counts), np.int64)
    for count in counts:
        frequencies[: len(count.pieces)] += count.pieces
    own = frequencies[MASK_ID + 1 :]  # without the special ones
    order = (np.argsort(-own, kind="stable")[:FREQUENT] + MASK_ID + 1).tolist()
    unknown = int(frequencies[UNK_ID]) if len(frequencies) > UNK_ID else 0
    names = dict(enumerate(pieces)) if pieces is not None else {}
    about = {
        "blocks": sum(count.blocks for count in counts),
        "documents": sum(len(count.starts) for count in counts),
        "tokens": tokens,
        "padding": padding,
        "padding_fraction": round(padding / (tokens + padding), 6),
        "unknown": unknown,
        "unknown_fraction": round(unknown / tokens, 9),
        "different_pieces": int(np.count_nonzero(own)),
        "lengths": _length_figures(_lengths(counts)),
        "frequent": [
            {"id": index, "piece": names.get(index), "count": int(frequencies[index])}
            for index in order
            if frequencies[index]
        ],
    }
    return about


def _lengths(counts: Sequence[_Counts]) -> Counter[int]:
    """Documents by their number of tokens, joined over shards; one whose other part is in no shard here is left out."""
    lengths: Counter[int] = Counter()
    for whole in _joined(counts):
        values, times = np.unique(whole, return_counts=True)
        lengths.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
    return lengths


def _joined(counts: Sequence[_Counts]) -> Iterator[Array]:
    """Lengths of the documents that are whole in these shards."""
    carried: int | None = None  # tokens of the document that the shard before ended in, or with
    before: _Counts | None = None
    for count in counts:
        if before is not None and count.first_block != before.first_block + before.blocks:
            if carried is not None and before.ended:
                yield np.array([carried])
            carried = None
        if len(count.starts):
            if carried is not None:
                yield np.array([carried + int(count.starts[0])])
            yield np.diff(count.starts)
            carried = count.tokens - int(count.starts[-1])
        elif carried is not None:
            carried += count.tokens
        before = count
    if carried is not None and before is not None and before.ended:
        yield np.array([carried])


def _length_figures(lengths: Counter[int]) -> dict[str, Any]:
    """Mean, percentiles (nearest rank) and extremes."""
    if not lengths:
        return {"documents": 0}
    values = np.array(sorted(lengths), np.int64)
    ends = np.cumsum([lengths[value] for value in values.tolist()])
    total = int(ends[-1])
    ranks = [-(-percent * total // 100) for percent in PERCENTILES]
    found = values[np.searchsorted(ends, ranks)].tolist()
    mean = sum(value * count for value, count in lengths.items()) / total
    return {
        "documents": total,
        "mean": round(mean, 2),
        "least": int(values[0]),
        **{f"p{percent}": value for percent, value in zip(PERCENTILES, found, strict=True)},
        "most": int(values[-1]),
    }
