"""Rows of training: sample numbers -> token ids. Batch k of B holds samples k*B .. (k+1)*B - 1, across epochs.

Position is one counter, the sample number; epoch, shard, block and row follow from it (`order`). Each rank reads only
the blocks that its share of the batch lies in. Price: where a batch is spread over many ranks, each of them opens most
blocks of a buffer for a few of their rows.
"""

import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.base.errors import UserError
from pipeline.base.sections import DataConfig
from pipeline.shards.manifest import read_manifest
from pipeline.stream.order import Order, share
from pipeline.stream.reader import ShardReader
from pipeline.stream.segments import content_length, frame, split_points

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Rows:
    """All int64: ids (n, seq); documents (n, seq) or None; segments (n, seq) or None; sample (n,), global index."""

    ids: Array
    documents: Array | None
    segments: Array | None
    sample: Array


class TokenStream:
    """One split of a data set as rows of `settings.sequence_length` tokens.

    folder: the data folder, with manifest.json; settings: config.data (the block length is the data's own). UserError
    when the data is missing, or when the training split does not fill one sequence; an empty validation split has
    `sequences == 0`. The shards' digests are not checked here: see `verify_shards`.
    """

    def __init__(self, folder: Path, split: str, settings: DataConfig, seed: int, shuffle: bool = True) -> None:
        self.manifest = read_manifest(Path(folder) / "manifest.json")
        if split not in self.manifest.splits:
            raise UserError(
                f"{Path(folder) / 'manifest.json'} has no split {split}; it has {', '.join(self.manifest.splits)}. "
                "Run pipeline/preprocess.py again into a new run_dir."
            )
        entry = self.manifest.splits[split]
        self.settings, self.seed = settings, seed
        self.content = content_length(settings.sequence_length, settings.segments)
        self.order = Order(
            [shard.blocks for shard in entry.shards],
            entry.tokens,
            self.manifest.block_tokens,
            self.content,
            seed=seed,
            window=settings.shuffle_window,
            buffer=settings.shuffle_buffer,
            shuffle=shuffle,
        )
        self.sequences = self.order.sequences
        """Sequences of an epoch."""
        if split == "train" and self.sequences == 0:
            raise UserError(
                f"the training split in {folder} does not fill one sequence: {entry.tokens:,} tokens in blocks of "
                f"{self.manifest.block_tokens:,}, data.sequence_length {settings.sequence_length:,}. "
                "Preprocess more text, or lower data.sequence_length."
            )
        self.reader = ShardReader(folder, self.manifest, split, open_blocks=2 * settings.shuffle_buffer)

    def rows(self, samples: Array) -> Rows:
        """The rows of global samples (n,), in their order."""
        samples = np.asarray(samples, np.int64)
        isolate = self.settings.isolate_documents
        content = np.empty((len(samples), self.content), self.manifest.dtype)
        numbers = np.empty((len(samples), self.content), np.int32)
        if len(samples):
            _, shards, blocks, rows = self.order.locate(samples)
            whole = self.order.per_block * self.content
            for shard, block in np.unique(np.stack([shards, blocks], axis=1), axis=0).tolist():
                here = (shards == shard) & (blocks == block)
                opened = self.reader.block(shard, block)
                content[here] = opened.ids[:whole].reshape(-1, self.content)[rows[here]]
                if isolate:
                    numbers[here] = opened.numbers[:whole].reshape(-1, self.content)[rows[here]]
        splits = None
        if self.settings.segments == "paper":
            splits = split_points(samples, self.seed, self.content)
        return Rows(*frame(content, numbers if isolate else None, splits), samples)


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
        self._ready: queue.Queue[Rows | BaseException] = queue.Queue(depth)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._fill, args=(first_step,), name="prefetcher", daemon=True)
        self._thread.start()

    def _fill(self, step: int) -> None:
        try:
            while not self._stop.is_set():
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

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
