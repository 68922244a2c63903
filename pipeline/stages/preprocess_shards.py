"""A split's shards from its token stream, each a Ray task; a data set that grows keeps the shards that are full.

The plan of a split is a file: the pieces of its stream and, in a later revision, where the one before ended. That one's
last shard is cut anew under a name of its own, so that the older manifest stays valid.
"""

import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.arrays import npy_bytes
from pipeline.base.files import is_remote, remove_tree, write_atomic, write_json
from pipeline.shards.block import (
    Block,
    Pieces,
    PieceSlice,
    cut_blocks,
    shard_count,
    shard_name,
    shard_range,
    take,
)
from pipeline.shards.manifest import SplitEntry, verify_shards
from pipeline.shards.reading import read_blocks
from pipeline.shards.writer import write_shard
from pipeline.stages.preprocess_work import Pass, Work, digest_of, opened

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """How a split's shards are cut from the pieces that the tasks have made."""

    split: str
    kind: str
    """train or validation: which of a task's files."""
    sha256: str
    """The tokenizer's."""
    tokens: int
    """Of the whole split, older revisions' included."""
    block_tokens: int
    shard_blocks: int
    dtype: str
    revision: int
    first_shard: int = 0
    """The first to write; those before it are an older revision's."""
    first_block: int = 0
    """The first that is not whole in an older revision."""
    old_shard: str = ""
    """The older revision's shard that the first one takes the place of."""
    tail_tokens: int = 0
    """Tokens of the older revision's short last block, which are cut anew; they begin at first_block."""
    tail_documents: int = 0
    begun: int = 0
    """Documents that begin before first_block."""

    @property
    def shards(self) -> range:
        """Numbers of the shards to write."""
        return range(self.first_shard, shard_count(self.tokens, self.block_tokens, self.shard_blocks))

    def name(self, shard: int) -> str:
        """File name of a shard in the split's folder."""
        recut = shard == self.first_shard and self.old_shard
        return f"{shard:06d}-r{self.revision}.tar" if recut else shard_name(shard)


def grown(plan: SplitPlan, old: SplitEntry, data: Path) -> SplitPlan:
    """The plan of a split that goes on from an older revision's; data: the folder of the shards."""
    if not old.tokens:
        return plan
    first_block, left = divmod(old.tokens, plan.block_tokens)
    shard = first_block // plan.shard_blocks
    name = old.shards[shard].name if shard < len(old.shards) else ""
    documents = 0
    if name:
        verify_shards(data, [old.shards[shard]])  # what is damaged must not come back with a digest of its own
    if left:
        *_, tail = read_blocks(data / name)
        documents = len(tail.documents)
    return replace(
        plan,
        tokens=plan.tokens + old.tokens,
        first_shard=shard,
        first_block=first_block,
        old_shard=name,
        tail_tokens=left,
        tail_documents=documents,
        begun=old.documents - documents,
    )


def write_plan(work: Work, plan: SplitPlan, pieces: Array) -> tuple[Pass, str]:
    """Writes the split's plan, pieces (n, 3) int64 of task, tokens and documents; its pass, and the plan's digest."""
    digest = digest_of(asdict(plan))
    made = work.shards(plan.split, digest)
    work.check()
    for other in sorted(work.path.iterdir()):  # of other sizes: they write the same files
        if re.fullmatch(rf"shards-{re.escape(plan.split)}-[0-9a-f]{{16}}", other.name) and other.name != made.name:
            remove_tree(other)
    write_atomic(made.path / "pieces.npy", npy_bytes(pieces))
    write_json(made.path / "plan.json", asdict(plan))
    return made, digest


def shard_task(place: str, job: str, split: str, digest: str, shard: int) -> float:
    """Writes one shard into data/SPLIT and marks it; its report is its entry in the manifest."""
    began = time.monotonic()
    work = opened(place, job)
    cut = _opened_cut(place, job, split, digest)
    work.check()
    entry = write_shard(work.path.parent / split / cut.plan.name(shard), cut.blocks(shard))
    work.shards(split, digest).finish(shard, entry.model_dump(mode="json"))
    return time.monotonic() - began


@lru_cache(maxsize=4)
def _opened_cut(place: str, job: str, split: str, digest: str) -> "_Cut":
    return _Cut(opened(place, job), split, digest)


class _Cut:
    """A split's plan and pieces; piece 0 is the older revision's tail, piece n + 1 what row n's task has made."""

    def __init__(self, work: Work, split: str, digest: str) -> None:
        made = work.shards(split, digest)
        self.work = work
        self.plan = SplitPlan(**json.loads((made.path / "plan.json").read_bytes()))
        with (made.path / "pieces.npy").open("rb") as file:
            table = np.load(file, allow_pickle=False)
        self.tasks = table[:, 0]
        tokens = np.concatenate([[self.plan.tail_tokens], table[:, 1]])
        documents = np.concatenate([[self.plan.tail_documents], table[:, 2]])
        begun = self.plan.begun + np.cumsum(documents) - documents
        self.pieces = Pieces(np.cumsum(tokens), begun, self._source, self.plan.first_block)
        self.tail: Block | None = None
        self.sources: dict[int, str] = {}

    def blocks(self, shard: int) -> Iterator[Block]:
        """The shard's blocks; those that an older revision has whole are taken from there."""
        plan = self.plan
        numbers = shard_range(shard, plan.tokens, plan.block_tokens, plan.shard_blocks)
        whole: Iterator[Block] = iter(())
        if shard == plan.first_shard and plan.old_shard:
            whole = self._whole_blocks(plan.first_block - numbers.start)
        rest = range(max(numbers.start, plan.first_block), numbers.stop)
        dtype = np.dtype(plan.dtype).newbyteorder("<")

        def new() -> Iterator[Block]:  # begun only after the old shard's last block has been read
            yield from cut_blocks(plan.split, self.pieces, self._read, plan.block_tokens, rest, dtype)

        return itertools.chain(whole, new())

    def _whole_blocks(self, count: int) -> Iterator[Block]:
        for number, block in enumerate(read_blocks(self.work.path.parent / self.plan.old_shard)):
            if number < count:
                yield block
            else:
                self.tail = block

    def _read(self, piece: int, start: int, stop: int) -> PieceSlice:
        if piece == 0:
            assert self.tail is not None
            return take(self.tail.ids, self.tail.documents, start, stop)
        folder = self.work.tokens(self.plan.sha256).folder(int(self.tasks[piece - 1]))
        starts = _starts(folder, self.plan.kind)
        first, last = np.searchsorted(starts, (start, stop), side="left")
        ids = _ids(folder / f"{self.plan.kind}.ids", start, stop, self.plan.dtype)
        return PieceSlice(ids, starts[first:last] - start, int(first))

    def _source(self, piece: int) -> str:
        if piece == 0:
            return str(self.tail.meta["sources"][0]) if self.tail is not None else ""
        if piece not in self.sources:  # that of the blocks to come too: pieces are long
            self.sources = {piece: self.work.tasks.task(int(self.tasks[piece - 1])).source}
        return self.sources[piece]


@lru_cache(maxsize=4)
def _starts(folder: Path, kind: str) -> Array:
    """(documents,) int64 of a task's part of a split."""
    return np.frombuffer((folder / f"{kind}.starts").read_bytes(), "<i8")


def _ids(path: Path, start: int, stop: int, dtype: str) -> Array:
    """Tokens [start, stop) of a task's part of a split."""
    kind = np.dtype(dtype).newbyteorder("<")
    first, last = start * kind.itemsize, stop * kind.itemsize
    if is_remote(path):
        from pipeline.base.storage import read_range

        data = read_range(path, first, last)
    else:
        with open(path, "rb") as file:
            file.seek(first)
            data = file.read(last - first)
    return np.frombuffer(data, kind)
