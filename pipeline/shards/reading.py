"""Blocks of a whole shard, in order, as they were written: for a shard that is cut anew when its data set grows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.config import PAD_ID
from pipeline.base.errors import UserError
from pipeline.shards.block import Block
from pipeline.shards.scan import Fault, ReadBlock, ShardBytes, read_shard


def read_blocks(path: Path) -> Iterator[Block]:
    """Every block of the shard; holds one. UserError where it is damaged."""
    try:
        with ShardBytes(path) as data:
            yield from map(_block, read_shard(data))
    except Fault as error:
        raise UserError(
            f"shard {path} cannot be read: {error}. Copy it again from where the data was made, or make the data set "
            "anew with --fresh."
        ) from None


def _block(found: ReadBlock) -> Block:
    ids = np.pad(found.ids, (0, found.padding), constant_values=PAD_ID)
    meta = {"tokens": len(found.ids), "first_document": found.first_document, "sources": list(found.sources)}
    return Block(found.key, ids, found.documents, meta)
