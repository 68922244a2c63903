"""Rows of training: sample numbers -> token ids. Batch k of B holds samples k*B .. (k+1)*B - 1, across epochs.

Position is one counter, the sample number; corpus (`mixture`), epoch, shard, block and row (`order`) follow from it.
Each rank reads only the blocks that its share of the batch lies in. Price: where a batch is spread over many ranks,
each of them opens most blocks of a buffer for a few of their rows; a mixture keeps two buffers of blocks open for each
of its corpora.
"""

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.base.sections import DataConfig
from pipeline.base.storage import is_remote, reading
from pipeline.shards.manifest import manifest_path, read_manifest
from pipeline.stream.ahead import Ahead
from pipeline.stream.bad import BadShard, Gaps
from pipeline.stream.cache import open_cache
from pipeline.stream.corpora import NO_MIXTURE, PREFIX, Shares, find_shares
from pipeline.stream.mixture import Mixture, own_seed
from pipeline.stream.order import Order, share
from pipeline.stream.reader import ShardReader
from pipeline.stream.segments import content_length, frame, split_points

Array = np.ndarray[Any, np.dtype[Any]]

TRAIN = "train"
LOOK = 4
"""Buffers whose shards are looked up at a time, by eight samples a block: a shard of a window is in nearly each."""


@dataclass(frozen=True)
class Rows:
    """All int64: ids (n, seq); documents (n, seq) or None; segments (n, seq) or None; sample (n,), global index."""

    ids: Array
    documents: Array | None
    segments: Array | None
    sample: Array


@dataclass(frozen=True)
class _Part:
    """A corpus's own sequences: where each lies, and its shards."""

    order: Order
    reader: ShardReader
    gaps: Gaps

    def fill(self, own: Array, places: Array, content: Array, numbers: Array | None) -> None:
        """Puts the part's sequences own (n,) into rows places (n,) of content (rows, C) and numbers (rows, C)."""
        length = content.shape[1]
        whole = self.order.per_block * length
        _, shards, blocks, rows = self.order.locate(self.gaps.filled(own))
        both = shards << 32 | blocks
        for place in np.unique(both).tolist():
            here = both == place
            opened = self.reader.block(place >> 32, place & 0xFFFFFFFF)
            content[places[here]] = opened.ids[:whole].reshape(-1, length)[rows[here]]
            if numbers is not None:
                numbers[places[here]] = opened.numbers[:whole].reshape(-1, length)[rows[here]]


class TokenStream:
    """One split of a data set as rows of `settings.sequence_length` tokens; "train" of a mixture is all its corpora.

    folder: the data folder, with manifest.json; settings: config.data (the block length is the data's own). shares: of
    a mixture's corpora, by default those that the data was made with. UserError when the data is missing, or when the
    training split, or a corpus of it, does not fill one sequence; an empty validation split has `sequences == 0`. The
    shards' digests are not checked here (see `verify_shards`), but those of a store's shards, as they are copied.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        settings: DataConfig,
        seed: int,
        shuffle: bool = True,
        shares: Shares | None = None,
    ) -> None:
        with reading(folder):
            path = manifest_path(folder, settings.revision)
            self.folder, self.manifest = folder, read_manifest(path)
        self.split, self.settings, self.seed, self.shuffle = split, settings, seed, shuffle
        self._cache = open_cache(settings) if is_remote(folder) else None
        self.content = content_length(settings.sequence_length, settings.segments)
        self.shares = (shares or find_shares(self.manifest, folder)) if split == TRAIN else NO_MIXTURE
        """Of a mixture's corpora."""
        places = self.shares.places
        self.mixture = Mixture(list(places.values()), seed) if places else None
        if places:
            self.parts = [self._open(PREFIX + name, own_seed(seed, name)) for name in places]
        elif split in self.manifest.splits:
            self.parts = [self._open(split, seed)]
        else:
            raise UserError(
                f"{path} has no split {split}; it has {', '.join(self.manifest.splits)}. "
                "Run pipeline/preprocess.py again into a new run_dir."
            )
        self.sequences = sum(part.order.sequences for part in self.parts)
        """Sequences of an epoch; of a mixture, of one epoch of each corpus."""

    def _open(self, split: str, seed: int) -> _Part:
        entry, settings = self.manifest.splits[split], self.settings
        order = Order(
            [shard.blocks for shard in entry.shards],
            entry.tokens,
            self.manifest.block_tokens,
            self.content,
            seed=seed,
            window=settings.shuffle_window,
            buffer=settings.shuffle_buffer,
            shuffle=self.shuffle,
        )
        if order.sequences == 0 and split.startswith(TRAIN):
            what, more = "the training split", "Preprocess more text"
            if split != TRAIN:
                what = f"corpus {split.removeprefix(PREFIX)}"
                more = "Preprocess with more text of it, or without it, into a new run_dir"
            raise UserError(
                f"{what} in {self.folder} does not fill one sequence: {entry.tokens:,} tokens in blocks of "
                f"{self.manifest.block_tokens:,}, data.sequence_length {settings.sequence_length:,}. "
                f"{more}, or lower data.sequence_length."
            )
        open_blocks = 2 * settings.shuffle_buffer
        reader = ShardReader(self.folder, self.manifest, split, open_blocks, self._cache)
        return _Part(order, reader, Gaps(order, reader.entries))

    def leave_out(self, shards: Sequence[str]) -> None:
        """Reads other sequences in place of those in these shards from now on. UserError where too much is missing."""
        for part in self.parts:
            part.gaps.add(shards)

    def rows(self, samples: Array) -> Rows:
        """The rows of global samples (n,), in their order. Raises BadShard.

        With data.on_bad_shard skip a split that is not trained on leaves a bad shard out by itself: no other rank needs
        to know.
        """
        samples = np.asarray(samples, np.int64)
        while True:
            try:
                return self._rows(samples)
            except BadShard as error:
                if self.split.startswith(TRAIN) or self.settings.on_bad_shard == "stop":
                    raise
                get_logger().warning(f"{error} It is left out of {self.split}.")
                self.leave_out([error.shard])

    def readable(self, samples: Array) -> Rows:
        """The rows of global samples (n,); with data.on_bad_shard skip without those that lie in bad shards.

        For figures beside the training: the same whether a bad shard is met here or was left out before.
        """
        names = np.array([entry.name for part in self.parts for entry in part.reader.entries])
        shards = self._shards(np.asarray(samples, np.int64), filled=False)
        bad = np.concatenate([part.gaps.bad for part in self.parts])
        while True:
            try:
                return self._rows(np.asarray(samples, np.int64)[~bad[shards]])
            except BadShard as error:
                if self.settings.on_bad_shard == "stop":
                    raise
                bad = bad | (names == error.shard)

    def _rows(self, samples: Array) -> Rows:
        content = np.empty((len(samples), self.content), self.manifest.dtype)
        numbers = np.empty((len(samples), self.content), np.int32) if self.settings.isolate_documents else None
        corpus, own = self._corpora(samples)
        for number in np.unique(corpus).tolist():
            places = np.flatnonzero(corpus == number)
            self.parts[number].fill(own[places], places, content, numbers)
        splits = None
        if self.settings.segments == "paper":
            splits = split_points(samples, self.seed, self.content)
        return Rows(*frame(content, numbers, splits), samples)

    def look_ahead(self) -> Ahead | None:
        """What fetches the shards of coming samples; None where they lie on this machine."""
        if self._cache is None:
            return None
        shards = [remote for part in self.parts for remote in part.reader.remotes]
        blocks = [part.order.per_block for part in self.parts]
        look = range(0, LOOK * self.settings.shuffle_buffer * sum(blocks), max(1, min(blocks) // 8))
        return Ahead(self._shards, shards, self._cache, look, self.settings.cache_ahead)

    def _corpora(self, samples: Array) -> tuple[Array, Array]:
        """Parts of global samples (n,), and the numbers of their own sequences, (n,) each."""
        return (np.zeros_like(samples), samples) if self.mixture is None else self.mixture.locate(samples)

    def _shards(self, samples: Array, filled: bool = True) -> Array:
        """Shards of global samples (n,), numbered through all parts; filled: of those that are read in their place."""
        corpus, own = self._corpora(samples)
        found = np.empty_like(samples)
        before = 0
        for number, part in enumerate(self.parts):
            here = corpus == number
            numbers = part.gaps.filled(own[here]) if filled else own[here]
            found[here] = before + part.order.locate(numbers).shard
            before += len(part.reader.entries)
        return found

    def epochs(self, samples: int) -> dict[str, float]:
        """How often the first `samples` samples pass through each corpus, by name; {} where there is no mixture."""
        if self.mixture is None:
            return {}
        counts = self.mixture.counts(samples).tolist()
        found = zip(self.shares.places, counts, self.parts, strict=True)
        return {name: count / part.order.sequences for name, count, part in found}


class Prefetcher:
    """Makes the next `depth` batches of one rank in a background thread.

    `wait_seconds`: time that next() has waited so far. An error in the thread is raised by next(). Close it, or use it
    as a context manager.
    """

    def __init__(
        self, stream: TokenStream, batch_size: int, rank: int, world: int, first_step: int, depth: int = 2
    ) -> None:
        self.stream, self.batch_size = stream, batch_size
        self.share = np.asarray(share(batch_size, rank, world), np.int64)
        self.wait_seconds = 0.0
        self.depth = depth
        self._start(first_step)

    def _start(self, first_step: int) -> None:
        self._ready: queue.Queue[Rows | BaseException] = queue.Queue(self.depth)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._ahead = self.stream.look_ahead()
        self._thread = threading.Thread(target=self._fill, args=(first_step,), name="prefetcher", daemon=True)
        self._thread.start()

    def restart(self, first_step: int) -> None:
        """Drops what was made, and begins at this step with the stream as it is now."""
        self.close()
        self._start(first_step)

    def _fill(self, step: int) -> None:
        try:
            while not self._stop.is_set():
                if self._ahead is not None:
                    self._ahead.at(step * self.batch_size)
                self._put(self.stream.rows(step * self.batch_size + self.share))
                step += 1
        except BaseException as error:
            self._put(error)

    def _put(self, item: Rows | BaseException) -> None:
        while not self._stop.is_set():
            try:
                return self._ready.put(item, timeout=0.05)
            except queue.Full:
                continue

    def next(self) -> Rows:
        """This rank's rows of the next global batch; raises what the thread has met."""
        if self._stop.is_set():
            raise RuntimeError("the prefetcher is closed")
        if self._failure is None:
            began = time.perf_counter()
            item = self._ready.get()
            self.wait_seconds += time.perf_counter() - began
            if isinstance(item, Rows):
                return item
            self._failure = item
        raise self._failure

    def close(self) -> None:
        """Ends the thread; what it has made is dropped. Safe to call again."""
        self._stop.set()
        self._thread.join()
        if self._ahead is not None:
            self._ahead.close()

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
