"""Shards: tar files of blocks, byte for byte repeatable, readable by a stock `webdataset.WebDataset(...).decode()`.

The same blocks give the same bytes on any machine: ustar, no times, no owners, fixed mode, little-endian arrays without
pickle, JSON with sorted keys. Written aside, hashed on the way, fsynced, renamed: a shard is whole or absent. Price:
tar headers and paddings, about 3 kB a block (2 % at 65,536 tokens).
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from pipeline.base.arrays import npy_bytes
from pipeline.base.files import complete_file
from pipeline.shards.block import Block
from pipeline.shards.manifest import ShardEntry


class _Archive:
    """A tar file that counts and digests what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.digest.update(data)
        self.bytes += len(data)

    def add(self, name: str, data: bytes) -> None:
        """A member: header, content, zeros up to a whole block."""
        info = tarfile.TarInfo(name)  # mtime, uid and gid are 0 and the owners' names empty unless set
        info.size = len(data)
        info.mode = 0o644
        self.write(info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE))

    def end(self) -> None:
        """Two blocks of zeros, and more up to a whole record."""
        end = self.bytes + 2 * tarfile.BLOCKSIZE
        self.write(bytes(end - self.bytes + -end % tarfile.RECORDSIZE))


def write_shard(path: Path, blocks: Iterable[Block]) -> ShardEntry:
    """Writes the blocks to data/SPLIT/NNNNNN.tar and returns its entry for the manifest.

    The entry's name is relative to data/ ("train/000000.tar"). UserError when the disk is full or cannot be written.
    """
    count = tokens = documents = 0
    with complete_file(path) as aside, open(aside, "wb") as raw:
        file = _Archive(raw)
        for block in blocks:
            meta = json.dumps(block.meta, sort_keys=True, separators=(",", ":"))
            file.add(f"{block.key}.ids.npy", npy_bytes(block.ids))
            file.add(f"{block.key}.documents.npy", npy_bytes(block.documents))
            file.add(f"{block.key}.meta.json", meta.encode())
            count += 1
            tokens += block.meta["tokens"]
            documents += len(block.documents)
        file.end()
    return ShardEntry(
        name=f"{path.parent.name}/{path.name}",
        blocks=count,
        tokens=tokens,
        documents=documents,
        bytes=file.bytes,
        sha256=file.digest.hexdigest(),
    )
