"""Bytes of a file as a stream of chunks, decompressed on the way, in bounded memory.

A gzip file may have several members, a zstd file several frames, a bzip2 file several streams. Damage (a truncated or
corrupt archive) is raised only after everything that could be read before it has been yielded. Price: zstd is fed
4 KiB at a time, which bounds what a hostile file can expand to: to 128 MiB a time (a block of 4 bytes makes 128 KiB),
and that is passed on in chunks.
"""

import bz2
import zlib
from collections.abc import Iterator

import zstandard

from pipeline.corpus.first_bytes import FIRST, fault_by_first_bytes
from pipeline.corpus.opening import open_input

CHUNK = 1 << 20
ZSTD_FEED = 1 << 12
ZSTD_WINDOW = 1 << 31
"""As `zstd --long=31` writes; memory is taken only when a frame asks for it."""
NO_MEMBER = "damaged gzip: it holds no member"
"""Of a file of nothing but zeros, as a lost disk or a copy that only made room leaves it."""


class Damage(Exception):
    """The rest of this file cannot be read; the message says why."""


def read_chunks(path: str, packing: str = "", start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Chunks of the content of a file or URL, from byte `start` of a plain file. Raises Damage, or UserError.

    stop: about where reading will end, no more than a hint (opening.py).
    """
    with open_input(path, start, stop) as file:
        if packing == ".gz":
            yield from _gunzip(iter(lambda: file.read(CHUNK), b""))
        elif packing == ".zst":
            yield from _unzstd(iter(lambda: file.read(ZSTD_FEED), b""))
        elif packing == ".bz2":
            yield from unbz2(iter(lambda: file.read(CHUNK), b""))
        else:
            yield from _plain(iter(lambda: file.read(CHUNK), b""), start)


def _plain(raw: Iterator[bytes], start: int) -> Iterator[bytes]:
    for number, data in enumerate(raw):
        fault = fault_by_first_bytes(data[:FIRST]) if start == number == 0 else None
        if fault:
            raise Damage(fault)
        yield data


def _gunzip(raw: Iterator[bytes]) -> Iterator[bytes]:
    member, begun = None, False
    for data in raw:
        while data:
            if member is None:
                data = data.lstrip(b"\0")  # members may be followed by padding
                if not data:
                    break
                member, begun = zlib.decompressobj(wbits=31), True
            before = member.copy()
            try:
                out = member.decompress(data, CHUNK)
            except zlib.error as error:
                yield from until_error(before, data)
                raise Damage(f"damaged gzip: {error}") from None
            yield out
            data = member.unused_data if member.eof else member.unconsumed_tail
            if member.eof:
                member = None
    if member is not None:
        yield member.flush()
        if not member.eof:
            raise Damage("truncated gzip: it ends inside a member")
    if not begun:
        raise Damage(NO_MEMBER)


def until_error(member: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """What a member gives before the byte at which it breaks: decompress() itself throws that away."""
    for position in range(len(data)):
        try:
            out = member.decompress(data[position : position + 1])
        except zlib.error:
            return
        yield out


def _unzstd(raw: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    frame = None
    for data in raw:
        while data:
            if frame is None:
                frame = decompressor.decompressobj()
            try:
                out = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise Damage(f"damaged zstd: {error}") from None
            if len(out) <= CHUNK:
                yield out
            else:  # whoever splits it into lines would need many times its size
                yield from (out[first : first + CHUNK] for first in range(0, len(out), CHUNK))
            data = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise Damage("truncated zstd: it ends inside a frame")


def unbz2(raw: Iterator[bytes]) -> Iterator[bytes]:
    """The content of bzip2 streams, one after the other, at most a chunk at a time. Raises Damage."""
    stream = None
    for data in raw:
        while data or (stream is not None and not stream.needs_input):
            if stream is None:
                stream = bz2.BZ2Decompressor()
            try:
                out = stream.decompress(data, CHUNK)
            except OSError as error:
                raise Damage(f"damaged bzip2: {error}") from None
            yield out
            data = stream.unused_data if stream.eof else b""
            if stream.eof:
                stream = None
    if stream is not None:
        raise Damage("truncated bzip2: it ends inside a stream")
