"""Order of sequences: (seed, epoch, k) -> (shard, block, row). Global batch k is the same on any number of ranks.

An epoch permutes the shards, then the blocks within each window of W consecutive blocks, then the sequences within each
buffer of Q consecutive blocks. Every permutation is drawn by itself from (seed, epoch, level, number of the window or
buffer), so any place is found without walking there: resuming costs one look-up. Pure NumPy, no files.

Price: sequences mix within a buffer only, blocks within a window (two or three shards) only; the tokens of a block past
its last whole sequence (fewer than one sequence's) are not seen.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SHARDS, BLOCKS, SEQUENCES, CORPORA = range(4)  # what is permuted: levels of an epoch, places of a mixture
_MASK = (1 << 64) - 1


def permutation(size: int, seed: int, epoch: int, level: int, number: int) -> Array:
    """A permutation of range(size), (size,) int64, read-only; the same for the same arguments on any machine.

    Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") keyed by (seed, level), at a counter that
    starts at (number, epoch); ranking its raw 64-bit words does not depend on NumPy's own algorithms for permutations.
    """
    key = np.array([seed & _MASK, level], np.uint64)
    counter = np.array([0, 0, number, epoch], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(size)
    result = np.argsort(words, kind="stable")
    result.flags.writeable = False
    return result


def share(batch_size: int, rank: int, world: int) -> range:
    """Positions, within a global batch, of one rank's sequences; shares differ by at most one."""
    return range(batch_size * rank // world, batch_size * (rank + 1) // world)


class Places(NamedTuple):
    """Where samples lie, each (n,) int64: epoch; shard of the split; block of the shard; row of the block."""

    epoch: Array
    shard: Array
    block: Array
    row: Array


class _Epoch(NamedTuple):
    shards: Array  # (shards,) in the order of this epoch
    ends: Array  # (shards,) blocks up to and with each of them
    short: int  # position of the short block after the blocks are permuted


class Order:
    """The order of one split's sequences.

    shard_blocks: blocks of each shard, in the manifest's order; tokens: real tokens of the split; content: tokens that
    a sequence takes from the stream. All blocks hold `block_tokens` tokens but the very last of the split, which may be
    short. window and buffer in blocks. Without `shuffle` the order is the stream's.
    """

    def __init__(
        self,
        shard_blocks: Sequence[int],
        tokens: int,
        block_tokens: int,
        content: int,
        *,
        seed: int,
        window: int = 1,
        buffer: int = 1,
        shuffle: bool = True,
    ) -> None:
        self.shard_blocks = np.asarray(shard_blocks, np.int64)
        self.blocks = int(self.shard_blocks.sum())
        if self.blocks != -(-tokens // block_tokens):
            raise ValueError(f"{self.blocks} blocks of {block_tokens} tokens cannot hold {tokens} tokens, one short")
        self.seed, self.window, self.buffer, self.shuffle = seed, window, buffer, shuffle
        self.per_block = block_tokens // content
        """Sequences of a full block."""
        last_tokens = tokens - max(self.blocks - 1, 0) * block_tokens
        self.missing = self.per_block - last_tokens // content if self.blocks else 0
        """Sequences that the split's last block has fewer than the others."""
        self.sequences = self.blocks * self.per_block - self.missing
        """Sequences of an epoch."""
        self._epoch = lru_cache(maxsize=4)(self._lay_out)
        self._permutation = lru_cache(maxsize=16)(self._drawn)

    def locate(self, samples: Array) -> Places:
        """Places of global samples (n,), counted from 0 across epochs. ValueError where an epoch is empty."""
        samples = np.asarray(samples, np.int64)
        if self.sequences == 0:
            raise ValueError("there are no sequences to locate")
        places = Places(*(np.zeros_like(samples) for _ in Places._fields))
        places.epoch[:], k = np.divmod(samples, self.sequences)
        for epoch in np.unique(places.epoch):
            here = places.epoch == epoch
            position, places.row[here] = self._find_row(int(epoch), k[here])
            places.shard[here], places.block[here] = self._find_block(int(epoch), position)
        return places

    def _drawn(self, size: int, epoch: int, level: int, number: int) -> Array:
        return permutation(size, self.seed, epoch, level, number) if self.shuffle else np.arange(size)

    def _window_permutation(self, epoch: int, number: int) -> Array:
        size = min(self.window, self.blocks - number * self.window)
        return self._permutation(size, epoch, BLOCKS, number)

    def _lay_out(self, epoch: int) -> _Epoch:
        shards = self._permutation(len(self.shard_blocks), epoch, SHARDS, 0)
        ends = np.cumsum(self.shard_blocks[shards])
        last = int(ends[np.flatnonzero(shards == len(shards) - 1)[0]]) - 1  # the short block before blocks are permuted
        number, inside = divmod(last, self.window)
        order = self._window_permutation(epoch, number)
        return _Epoch(shards, ends, number * self.window + int(np.flatnonzero(order == inside)[0]))

    def _find_row(self, epoch: int, k: Array) -> tuple[Array, Array]:
        """Sequences k (n,) of an epoch -> positions of their blocks among the permuted ones, and their rows, (n,) each.

        Numbers after the short block are shifted by what it lacks, as if it were full; then all is division.
        """
        span = self.buffer * self.per_block
        short_buffer, short_slot = divmod(self._epoch(epoch).short, self.buffer)
        k = np.where(k >= (short_buffer + 1) * span - self.missing, k + self.missing, k)
        position, row = np.empty_like(k), np.empty_like(k)
        for number in np.unique(k // span):
            here = k // span == number
            size = min(self.buffer, self.blocks - int(number) * self.buffer) * self.per_block
            inside = k[here] - number * span
            if number == short_buffer:
                inside = self._permutation(size - self.missing, epoch, SEQUENCES, int(number))[inside]
                short_end = (short_slot + 1) * self.per_block - self.missing
                inside = np.where(inside >= short_end, inside + self.missing, inside)
            else:
                inside = self._permutation(size, epoch, SEQUENCES, int(number))[inside]
            position[here] = number * self.buffer + inside // self.per_block
            row[here] = inside % self.per_block
        return position, row

    def _find_block(self, epoch: int, position: Array) -> tuple[Array, Array]:
        """Positions (n,) among the permuted blocks -> shards, and blocks within them, (n,) each."""
        layout = self._epoch(epoch)
        index = np.empty_like(position)
        for number in np.unique(position // self.window):
            here = position // self.window == number
            order = self._window_permutation(epoch, int(number))
            index[here] = number * self.window + order[position[here] - number * self.window]
        place = np.searchsorted(layout.ends, index, side="right")
        shard = layout.shards[place]
        return shard, index - (layout.ends[place] - self.shard_blocks[shard])
