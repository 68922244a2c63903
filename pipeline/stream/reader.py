"""Random access to the blocks of tar shards: a shard is read whole once, blocks by themselves; the last ones stay open.

At its first block a shard's digest is compared with the manifest's, and a checksum of each member is kept, which each
block is compared with: what changes on the disk in the middle of a run is noticed. Shards of a store are read from
local copies (`cache`). One that is broken is tried again (`bad`), then a BadShard that names it and the sample.

Price: the first block of a shard costs one pass over it (0.1 s for 67 MB); a block is read whole even for one row
(128 kB at 65,536 tokens).
"""

import os
import threading
import zlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from pipeline.base.errors import UserError
from pipeline.base.names import file_inside
from pipeline.shards.block import Array, block_key
from pipeline.shards.manifest import Manifest
from pipeline.shards.npy import read_npy
from pipeline.shards.scan import RECORD, Fault, ShardBytes, read_members
from pipeline.stream.bad import BadShard, with_patience
from pipeline.stream.cache import Cache, NoRoom, Remote, RemoteFile

_FIELDS = ("ids.npy", "documents.npy")


class OpenBlock(NamedTuple):
    """ids (block_tokens,); numbers (block_tokens,) int32: documents begun in this block up to and with each token."""

    ids: Array
    numbers: Array


class ShardReader:
    """Blocks of one split by (shard, block of the shard). Safe to use from several threads.

    data: the folder of the manifest; open_blocks: how many decoded blocks to keep (each 6 bytes a token); cache: where
    the shards are copied to, None for those of this machine, which are read where they are.
    """

    def __init__(
        self, data: Path, manifest: Manifest, split: str, open_blocks: int, cache: Cache | None = None
    ) -> None:
        self.data, self.manifest, self.split, self.cache = data, manifest, split, cache
        self.entries = manifest.splits[split].shards
        self.first_block = np.cumsum([0, *(entry.blocks for entry in self.entries)])
        self.block = lru_cache(maxsize=open_blocks)(self._read_block)
        self._index = lru_cache(maxsize=None)(self._read_index)
        self._given_up: dict[int, BadShard] = {}
        self._one = threading.Lock()  # two threads of a process do not read one shard whole side by side

    @cached_property
    def remotes(self) -> list[Remote]:
        """What is copied of each shard."""
        return [Remote(self.data, (RemoteFile(entry.name, entry.bytes, entry.sha256),)) for entry in self.entries]

    def _open(self, shard: int) -> BinaryIO:
        """The shard's file, unbuffered."""
        if self.cache is not None:
            return self.cache.open(self.remotes[shard], self.entries[shard].name)
        return open(file_inside(self.data, self.entries[shard].name), "rb", buffering=0)

    def _broken(self, shard: int, where: str, reason: object) -> BadShard:
        manifest, name = self.data / "manifest.json", self.entries[shard].name
        return BadShard(
            f"shard {self.data / name}{where} cannot be read: {reason}. Copy it again from where the data was made, or "
            f"delete {manifest} and run pipeline/preprocess.py again.",
            name,
        )

    def _key(self, shard: int, block: int) -> str:
        return block_key(self.split, int(self.first_block[shard]) + block)

    def _read_index(self, shard: int) -> Array:
        """Offset, size and CRC-32 of a shard's arrays: (blocks, 2 for ids and documents, 3) int64."""
        with self._one:
            if shard in self._given_up:
                raise self._given_up[shard]
            try:
                return with_patience(lambda: self._scan(shard))
            except BadShard as error:
                self._given_up[shard] = error
                raise

    def _scan(self, shard: int) -> Array:
        entry = self.entries[shard]
        found: dict[str, tuple[int, int, int]] = {}
        try:
            with self._open(shard) as file:
                data = ShardBytes(self.data, file=file)
                for name, at, content in read_members(data):
                    found[name] = (at + RECORD, len(content), zlib.crc32(content))
        except (OSError, Fault) as error:
            raise self._broken(shard, "", error) from None
        except NoRoom:
            raise
        except UserError as error:  # a store's, which was waited for, or a link that leads out
            raise BadShard(str(error), entry.name, tried=True) from None
        index = np.empty((entry.blocks, len(_FIELDS), 3), np.int64)
        for block in range(len(index)):
            for field, name in enumerate(_FIELDS):
                member_name = f"{self._key(shard, block)}.{name}"
                if member_name not in found:
                    raise self._broken(shard, "", f"{member_name} is not in it")
                index[block, field] = found[member_name]
        if data.digest.hexdigest() != entry.sha256:
            told = f"its bytes are not those that were written (sha256 {data.digest.hexdigest()}, not {entry.sha256})"
            raise self._broken(shard, "", told)
        return index

    def _read_block(self, shard: int, block: int) -> OpenBlock:
        places = self._index(shard)[block].tolist()
        return with_patience(lambda: self._decoded(shard, block, places))

    def _decoded(self, shard: int, block: int, places: Sequence[tuple[int, int, int]]) -> OpenBlock:
        """places: offset, size and checksum of its ids and of its documents."""
        where = f", sample {self._key(shard, block)},"
        try:
            with self._open(shard) as file:
                ids, documents = (read_npy(_member(file, *place)) for place in places)
        except (OSError, ValueError) as error:
            raise self._broken(shard, where, error) from None
        except NoRoom:
            raise
        except UserError as error:
            raise BadShard(str(error), self.entries[shard].name, tried=True) from None
        length = self.manifest.block_tokens
        if ids.shape != (length,) or ids.dtype != np.dtype(self.manifest.dtype):
            raise self._broken(shard, where, f"ids are {ids.dtype} {ids.shape}, not {self.manifest.dtype} ({length},)")
        if int(ids.max()) >= self.manifest.tokenizer.vocab_size:
            raise self._broken(shard, where, f"id {ids.max()} is past the {self.manifest.tokenizer.vocab_size} pieces")
        if documents.ndim != 1 or documents.dtype != np.int32 or not _rising_below(documents, length):
            raise self._broken(shard, where, "the offsets of its documents are not rising places in the block")
        begins = np.zeros(length, np.int32)
        begins[documents] = 1
        return OpenBlock(ids, np.cumsum(begins, dtype=np.int32))


def _member(file: BinaryIO, offset: int, size: int, checksum: int) -> bytes:
    """The bytes at a place of a file; ValueError when they are not those that the shard's digest was taken of."""
    data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise ValueError(f"the file ends within it ({len(data)} of {size} bytes)")
    if zlib.crc32(data) != checksum:
        raise ValueError("its bytes have changed since the shard was opened")
    return data


def _rising_below(offsets: Array, end: int) -> bool:
    return bool(offsets.size == 0 or (offsets[0] >= 0 and offsets[-1] < end and (np.diff(offsets) > 0).all()))
