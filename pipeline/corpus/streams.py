"""Bytes of a file as a stream of chunks, decompressed on the way, in bounded memory.

A gzip file may have several members, a zstd file several frames. Damage (a truncated or corrupt archive) is raised only
after everything that could be read before it has been yielded. Price: zstd is fed 4 KiB at a time, which bounds what a
hostile file can expand to.
"""

import zlib
from collections.abc import Iterator

import zstandard

from pipeline.base.errors import UserError

CHUNK = 1 << 20
ZSTD_FEED = 1 << 12
ZSTD_WINDOW = 1 << 31
"""As `zstd --long=31` writes; memory is taken only when a frame asks for it."""


class Damage(Exception):
    """The rest of this file cannot be read; the message says why."""


def read_chunks(path: str, packing: str = "", start: int = 0) -> Iterator[bytes]:
    """Chunks of the file's content, from byte `start` of a plain file. Raises Damage, or UserError."""
    try:
        with open(path, "rb") as file:
            if packing == ".gz":
                yield from _gunzip(iter(lambda: file.read(CHUNK), b""))
            elif packing == ".zst":
                yield from _unzstd(iter(lambda: file.read(ZSTD_FEED), b""))
            else:
                file.seek(start)
                yield from iter(lambda: file.read(CHUNK), b"")
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}. Mend it and start the same command again."
        ) from error


def _gunzip(raw: Iterator[bytes]) -> Iterator[bytes]:
    member = None
    for data in raw:
        while data:
            if member is None:
                data = data.lstrip(b"\0")  # members may be followed by padding
                if not data:
                    break
                member = zlib.decompressobj(wbits=31)
            before = member.copy()
            try:
                out = member.decompress(data, CHUNK)
            except zlib.error as error:
                yield from _until_error(before, data)
                raise Damage(f"damaged gzip: {error}") from None
            yield out
            data = member.unused_data if member.eof else member.unconsumed_tail
            if member.eof:
                member = None
    if member is not None:
        yield member.flush()
        if not member.eof:
            raise Damage("truncated gzip: it ends inside a member")


def _until_error(member: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
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
            yield out
            data = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise Damage("truncated zstd: it ends inside a frame")
