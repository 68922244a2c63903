"""Where samples of the training stream lie, as keys that a person can look up: shard, block and row of each."""

import numpy as np

from pipeline.shards.block import block_key
from pipeline.stream.loader import TokenStream


def sample_keys(stream: TokenStream, samples: list[int]) -> list[str]:
    """`train/00003.tar train-00000207 row 5`, of each global sample: its shard, the block's key there, its row."""
    numbers = np.asarray(samples, np.int64)
    corpus, own = (np.zeros_like(numbers), numbers) if stream.mixture is None else stream.mixture.locate(numbers)
    keys = [""] * len(samples)
    for place, (number, sample) in enumerate(zip(corpus.tolist(), own.tolist(), strict=True)):
        part = stream.parts[number]
        _, shards, blocks, rows = part.order.locate(part.gaps.filled(np.array([sample])))
        shard, reader = int(shards[0]), part.reader
        block = block_key(reader.split, int(reader.first_block[shard]) + int(blocks[0]))
        keys[place] = f"{reader.entries[shard].name} {block} row {int(rows[0])}"
    return keys
