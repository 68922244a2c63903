"""A stream that goes on after damage: bytes, and in their place what is broken, in a gzip file of many members.

A web archive compresses each record by itself, so a broken member costs one record: the next one is looked for by the
first bytes of a member whose content begins as a record does. Price: a member that breaks late may hide the beginning
of the next, which is then lost too.
"""

import zlib
from collections.abc import Iterator
from typing import IO

from pipeline.corpus.opening import open_input
from pipeline.corpus.streams import CHUNK, NO_MEMBER, Damage, read_chunks, until_error

READ = 1 << 16
MAGIC = b"\x1f\x8b\x08"
PROBE = 1 << 12
"""Compressed bytes by which a member is known by its content."""


Piece = bytes | Damage | None
"""Content; what is broken; or None: all content up to here has passed its checksum."""


class Source:
    """Lines and runs of bytes of a stream of chunks. Raises each Damage of the stream once, where it stands."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._buffer = b""
        self._at = self._dropped = 0
        self.checked = 0
        """Bytes, from the beginning, that have passed a checksum."""

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._dropped + self._at

    def _fill(self) -> bool:
        """Puts the next piece behind what is left; False at the end."""
        for piece in self._pieces:
            if piece is None:
                self.checked = self._dropped + len(self._buffer)
            elif isinstance(piece, Damage):
                self._dropped += len(self._buffer)
                self._buffer, self._at = b"", 0
                raise piece
            elif piece:
                self._dropped += self._at
                self._buffer, self._at = self._buffer[self._at :] + piece, 0
                return True
        return False

    def line(self, most: int) -> bytes:
        """The next line with its end, or `most` bytes of a longer one; b"" at the end of the stream."""
        while True:
            end = self._buffer.find(b"\n", self._at, self._at + most)
            if end >= 0 or len(self._buffer) - self._at >= most or not self._fill():
                break
        stop = end + 1 if end >= 0 else min(self._at + most, len(self._buffer))
        found, self._at = self._buffer[self._at : stop], stop
        return found

    def take(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end of the stream."""
        parts = []
        while size > 0:
            part = self._buffer[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
            if size > 0 and not self._fill():
                break
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Passes over `size` bytes; how many were there."""
        left = size
        while left > 0:
            step = min(left, len(self._buffer) - self._at)
            self._at += step
            left -= step
            if left > 0 and not self._fill():
                break
        return size - left


def read_source(path: str, packing: str, begins: bytes) -> Iterator[Piece]:
    """Chunks of the file's content; a Damage in the place of what is broken, after which a gzip file goes on.

    begins: the first bytes of a member's content, by which the next whole one is known.
    """
    if packing == ".gz":
        with open_input(path) as file:
            yield from _members(file, begins)
        return
    try:
        yield from read_chunks(path, packing)
    except Damage as damage:
        yield damage


def _members(file: IO[bytes], begins: bytes) -> Iterator[Piece]:
    member, begun = None, False
    data = b""
    while data := data or file.read(READ):
        if member is None:
            data = data.lstrip(b"\0")  # members may be followed by padding
            if not data:
                continue
            member, begun = zlib.decompressobj(wbits=31), True
        before = member.copy()
        try:
            out = member.decompress(data, CHUNK)
        except zlib.error as error:
            yield from until_error(before, data)
            yield Damage(f"damaged gzip: {error}")
            member, data = None, _next_member(data, file, begins)
            continue
        yield out
        data = member.unused_data if member.eof else member.unconsumed_tail
        if member.eof:
            member = None
            yield None
    if member is not None:
        yield member.flush()
        if not member.eof:
            yield Damage("truncated gzip: it ends inside a member")
    if not begun:
        yield Damage(NO_MEMBER)


def _next_member(data: bytes, file: IO[bytes], begins: bytes) -> bytes:
    """What follows from the next member on whose content begins as wanted; b"" where there is none."""
    data = data[1:]
    while True:
        at = data.find(MAGIC)
        if at < 0 or len(data) - at < PROBE:
            more = file.read(READ)
            if more:
                data = (data[at:] if at >= 0 else data[1 - len(MAGIC) :]) + more
                continue
            if at < 0:
                return b""
        if _begins(data[at : at + PROBE], begins):
            return data[at:]
        data = data[at + 1 :]


def _begins(member: bytes, content: bytes) -> bool:
    try:
        return zlib.decompressobj(wbits=31).decompress(member, len(content)) == content
    except zlib.error:
        return False
