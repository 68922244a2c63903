"""A safetensors file of fp32 tensors whose ranges many processes write at once; its bytes depend on the shapes alone.

Eight bytes with the header's length, the header as JSON, then every tensor in the order of its names, without gaps: all
ranks can tell where each element belongs. Price: what was written is read once more for its digest, and compared on the
way with checksums of what each rank had in memory (a network file system may lose one of two writes to a page).
"""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import UserError

ELEMENT = 4
"""Bytes of a float32."""
_CHUNK = 8 << 20


@dataclass(frozen=True, order=True)
class Piece:
    """A range of bytes of a file: [start, start + size)."""

    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """The header's bytes, where each tensor begins, and how long the file is."""

    header: bytes
    starts: dict[str, int]
    size: int


def layout_of(shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """What safetensors' own writer makes of fp32 tensors of these shapes."""
    described, offset, offsets = {}, 0, {}
    for name in sorted(shapes):
        end = offset + ELEMENT * math.prod(shapes[name])
        described[name] = {"dtype": "F32", "shape": list(shapes[name]), "data_offsets": [offset, end]}
        offsets[name], offset = offset, end
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return Layout(header, {name: len(header) + at for name, at in offsets.items()}, len(header) + offset)


def check_cover(layout: Layout, pieces: Sequence[Piece]) -> None:
    """RuntimeError unless the pieces of all ranks are every byte behind the header exactly once."""
    at = len(layout.header)
    for piece in sorted(pieces):
        if piece.start != at:
            what = "twice" if piece.start < at else "not at all"
            raise RuntimeError(f"bytes of a checkpoint's file from {min(piece.start, at)} would be written {what}")
        at += piece.size
    if at != layout.size:
        raise RuntimeError(f"{at} of a checkpoint's {layout.size} bytes would be written")


def create(path: Path, layout: Layout) -> None:
    """The file at its full length, with its header; the rest are zeros."""
    with open(path, "wb") as file:
        file.write(layout.header)
        file.truncate(layout.size)


def write_piece(descriptor: int, piece: Piece, content: memoryview) -> int:
    """Puts the bytes into their place; returns their checksum."""
    done = 0
    while done < piece.size:
        done += os.pwrite(descriptor, content[done : done + _CHUNK], piece.start + done)
    return zlib.crc32(content)


def digest(path: Path, layout: Layout, checksums: Mapping[Piece, int]) -> str:
    """sha256 of the file; UserError where a piece is not what its rank wrote."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        if (head := file.read(len(layout.header))) != layout.header:
            raise _lost(path)
        whole.update(head)
        for piece in sorted(checksums):
            found, left = 0, piece.size
            while left:
                data = file.read(min(_CHUNK, left))
                if not data:
                    raise _lost(path)
                whole.update(data)
                found, left = zlib.crc32(data, found), left - len(data)
            if found != checksums[piece]:
                raise _lost(path)
    return whole.hexdigest()


def _lost(path: Path) -> UserError:
    return UserError(
        f"{path} reads back otherwise than it was written: the disk or the network file system loses writes. Check it, "
        "or set run_dir or store to another place."
    )
