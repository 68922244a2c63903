"""Random access to the blocks of tar shards: an index of offsets, read once a shard; the last used blocks stay open.

Shards of a store are read from local copies, fetched and checked at their first block (`cache`).

A shard that turns out to be broken is a UserError that names the shard and the sample. Price: the first block of a
shard costs a scan of its headers (a few tens of ms); a block is read whole even for one row (128 kB at 65,536 tokens).
"""

import io
import os
import tarfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pipeline.base.errors import UserError
from pipeline.shards.block import Array, block_key
from pipeline.shards.manifest import Manifest
from pipeline.stream.cache import Cache, Remote, RemoteFile

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
        self.remotes = [Remote(data, (RemoteFile(entry.name, entry.bytes, entry.sha256),)) for entry in self.entries]
        """What is copied of each shard."""
        self.first_block = np.cumsum([0, *(entry.blocks for entry in self.entries)])
        self.block = lru_cache(maxsize=open_blocks)(self._read_block)
        self._index = lru_cache(maxsize=None)(self._read_index)

    def _open(self, shard: int) -> BinaryIO:
        """The shard's file, unbuffered."""
        if self.cache is not None:
            return self.cache.open(self.remotes[shard], self.entries[shard].name)
        return open(self.data / self.entries[shard].name, "rb", buffering=0)

    def _broken(self, shard: int, where: str, reason: object) -> UserError:
        manifest = self.data / "manifest.json"
        return UserError(
            f"shard {self.data / self.entries[shard].name}{where} cannot be read: {reason}. Copy it "
            f"again from where the data was made, or delete {manifest} and run pipeline/preprocess.py again."
        )

    def _key(self, shard: int, block: int) -> str:
        return block_key(self.split, int(self.first_block[shard]) + block)

    def _read_index(self, shard: int) -> Array:
        """Offsets and sizes of a shard's arrays: (blocks, 2 for ids and documents, 2) int64."""
        found = {}
        try:
            with self._open(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    found[member.name] = (member.offset_data, member.size)
        except (OSError, tarfile.TarError) as error:
            raise self._broken(shard, "", error) from None
        index = np.empty((self.entries[shard].blocks, len(_FIELDS), 2), np.int64)
        for block in range(len(index)):
            for field, name in enumerate(_FIELDS):
                member_name = f"{self._key(shard, block)}.{name}"
                if member_name not in found:
                    raise self._broken(shard, "", f"{member_name} is not in it")
                index[block, field] = found[member_name]
        return index

    def _read_block(self, shard: int, block: int) -> OpenBlock:
        where = f", sample {self._key(shard, block)},"
        places = self._index(shard)[block].tolist()
        try:
            with self._open(shard) as file:
                ids, documents = _load_arrays(file, places)
        except (OSError, ValueError, EOFError) as error:
            raise self._broken(shard, where, error) from None
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


def _load_arrays(file: BinaryIO, places: Sequence[Sequence[int]]) -> list[Array]:
    """The .npy files at the given (offset, size) of a file; ValueError when one is cut short or no array."""
    arrays = []
    for offset, size in places:
        data = os.pread(file.fileno(), size, offset)
        if len(data) != size:
            raise ValueError(f"the file ends within it ({len(data)} of {size} bytes)")
        arrays.append(np.load(io.BytesIO(data), allow_pickle=False))
    return arrays


def _rising_below(offsets: np.ndarray[Any, Any], end: int) -> bool:
    return bool(offsets.size == 0 or (offsets[0] >= 0 and offsets[-1] < end and (np.diff(offsets) > 0).all()))
