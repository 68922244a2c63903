"""A shard read once from its first byte to its last: its blocks in order, and the digest of everything.

docs/data.md has the format; what is not of it is a Fault that says at which byte. A shard may lie in a store: it is
read in parts, none twice. Price: a block is held whole, and the tar format is read here, header by header: Python's
tarfile takes packed archives, other types of members and a missing end without a word.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from model.config import PAD_ID
from pipeline.base.errors import first_line
from pipeline.base.storage import Location, facts_of, read_range, reading
from pipeline.shards.block import Array
from pipeline.shards.npy import read_npy

PART = 4 << 20
RECORD = 512
MOST_BYTES = 1 << 30
"""Of a member: what claims to be larger is no block."""
FIELDS = ("ids.npy", "documents.npy", "meta.json")
META = {"tokens", "first_document", "sources"}
_NAME = re.compile(r"([A-Za-z0-9_-]+)-(\d{9,12})\.(ids\.npy|documents\.npy|meta\.json)")

Seen = Callable[[int], object]
"""Told of bytes as they are read."""


class Fault(Exception):
    """What is wrong with a shard, and at which byte."""


class ReadBlock(NamedTuple):
    """A block as it stands in a shard.

    split, number: its key; ids (tokens,), the real ones; documents (n,) int32; padding: tokens that fill it up.
    """

    split: str
    number: int
    ids: Array
    documents: Array
    padding: int
    first_document: int
    sources: tuple[str, str]

    @property
    def key(self) -> str:
        """As the members are named."""
        return f"{self.split}-{self.number:09d}"


class ShardBytes:
    """The bytes of a shard in order; `digest` and `size` are of all that was read."""

    def __init__(self, place: Location, seen: Seen = lambda _: None, file: IO[bytes] | None = None) -> None:
        """file: the shard, open and unbuffered, where the caller has opened it."""
        self.place, self.seen = place, seen
        self.digest = hashlib.sha256()
        self.size = 0
        self._part, self._at = b"", 0
        self._file = file
        self._end = 0 if isinstance(place, Path) or file is not None else facts_of(place).size

    def __enter__(self) -> "ShardBytes":
        if isinstance(self.place, Path) and self._file is None:
            with reading(self.place):
                self._file = open(self.place, "rb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def place_read(self) -> int:
        """The byte that `take` gives next."""
        return self.size - len(self._part) + self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end."""
        if len(self._part) - self._at < count:
            parts = [self._part[self._at :]]
            have = len(parts[0])
            while have < count and (part := self._next()):
                parts.append(part)
                have += len(part)
            self._part, self._at = b"".join(parts), 0
        found = self._part[self._at : self._at + count]
        self._at += len(found)
        return found

    def drain(self) -> None:
        """Reads the rest, for the digest."""
        while self._next():
            pass

    def _next(self) -> bytes:
        if self._file is not None:
            with reading(self.place):
                part = self._file.read(PART) or b""
        else:
            part = read_range(self.place, self.size, min(self._end, self.size + PART))
        self.digest.update(part)
        self.size += len(part)
        if part:
            self.seen(len(part))
        return part


def read_shard(shard: ShardBytes) -> Iterator[ReadBlock]:
    """The blocks of a shard in order, to the end of the file. Raises Fault."""
    members: dict[str, bytes] = {}
    key, at = "", 0
    for name, place, data in read_members(shard):
        found = _NAME.fullmatch(name)
        if found is None:  # pragma: no cover - read_members lets no other name through
            raise Fault(f"at byte {place:,}: {name} is no member of a shard")
        if not members:
            key, at = f"{found[1]}-{found[2]}", place
        elif name.rpartition(".")[0].rpartition(".")[0] != key or found[3] in members:
            raise Fault(f"at byte {place:,}: {name} stands where a member of {key} should")
        members[found[3]] = data
        if len(members) == len(FIELDS):
            yield _block(found[1], int(found[2]), at, members)
            members = {}
    if members:
        raise Fault(f"at byte {at:,}: {key} has only {', '.join(sorted(members))}")


def read_members(shard: ShardBytes) -> Iterator[tuple[str, int, bytes]]:
    """(name, byte of its header, content) of each member of the tar file (POSIX ustar), to its end. Raises Fault."""
    while True:
        at = shard.place_read
        header = shard.take(RECORD)
        if header == bytes(RECORD):
            return _check_end(shard, at)
        if len(header) < RECORD:
            what = "inside a header" if header else "without the two empty records that close a tar file"
            raise Fault(f"at byte {at + len(header):,}: it ends {what}")
        name, size = _header(header, at)
        data = shard.take(size)
        padding = shard.take(-size % RECORD)
        if len(data) < size or len(padding) < -size % RECORD:
            raise Fault(f"at byte {shard.place_read:,}: it ends inside {name}")
        yield name, at, data


def _header(header: bytes, at: int) -> tuple[str, int]:
    """Name and size of a member, by its header of 512 bytes at byte `at`."""
    told = re.match(rb" *([0-7]+)", header[148:156])
    if told is None or int(told[1], 8) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        what = "it is no tar file" if at == 0 else "the header of a member is broken"
        raise Fault(f"at byte {at:,}: {what} (its checksum is wrong)")
    name = (header[345:500].rstrip(b"\0") + b"/" if header[345] else b"") + header[:100].rstrip(b"\0")
    shown = name.decode(errors="replace")
    size = re.match(rb" *([0-7]+)", header[124:136])
    if header[156:157] not in (b"0", b"\0") or _NAME.fullmatch(shown) is None:
        raise Fault(f"at byte {at:,}: {shown!r} is no member of a shard: it is a tar file of something else")
    if size is None or int(size[1], 8) > MOST_BYTES:
        raise Fault(f"at byte {at:,}: the size of {shown} is broken")
    return shown, int(size[1], 8)


def _check_end(shard: ShardBytes, at: int) -> None:
    """After the first of the two empty records there is nothing but zeros."""
    zeros = RECORD
    while part := shard.take(PART):
        if part.count(0) != len(part):
            raise Fault(f"at byte {at:,}: something follows the end of the tar file")
        zeros += len(part)
    if zeros < 2 * RECORD:
        raise Fault(f"at byte {at:,}: it ends without the two empty records that close a tar file")


def _block(split: str, number: int, at: int, members: dict[str, bytes]) -> ReadBlock:
    key = f"{split}-{number:09d}, at byte {at:,}"
    ids = _array(members["ids.npy"], ("<u2", "<u4"), f"the ids of {key}")
    documents = _array(members["documents.npy"], ("<i4",), f"the documents of {key}")
    try:
        meta = json.loads(members["meta.json"])
        tokens, first = meta["tokens"], meta["first_document"]
        sources = tuple(str(source) for source in meta["sources"])
        if set(meta) != META or type(tokens) is not int or type(first) is not int or len(sources) != 2:
            raise ValueError("it has other fields than tokens, first_document, sources")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Fault(f"meta.json of {key}: {first_line(error)}") from None
    if not 0 < tokens <= len(ids):
        raise Fault(f"meta.json of {key}: tokens {tokens:,} of a block of {len(ids):,}")
    if documents.size and not (documents[0] >= 0 and documents[-1] < tokens and (np.diff(documents) > 0).all()):
        raise Fault(f"the documents of {key} are not rising places among its {tokens:,} tokens")
    if first < 0:
        raise Fault(f"meta.json of {key}: first_document {first}")
    if (ids[tokens:] != PAD_ID).any():
        raise Fault(f"the ids of {key}: something other than padding follows its {tokens:,} tokens")
    return ReadBlock(split, number, ids[:tokens], documents, len(ids) - tokens, first, (sources[0], sources[1]))


def _array(data: bytes, kinds: tuple[str, ...], what: str) -> Array:
    try:
        array = read_npy(data)
    except ValueError as error:
        raise Fault(f"{what} are no .npy array: {first_line(error)}") from None
    if array.dtype.str not in kinds:
        raise Fault(f"{what} are {array.dtype.str} {array.shape}, not one row of {' or '.join(kinds)}")
    return array
