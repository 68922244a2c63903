"""Documents of a task as they are after cleaning, kept where they are needed a second time.

A zstd stream of documents, each its UTF-8 length in four little-endian bytes and its UTF-8. Price: about a third of the
text's bytes on the disk until the stage ends; it saves reading and cleaning the input again.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import zstandard

from pipeline.base.errors import UserError

_LENGTH = struct.Struct("<I")
LEVEL = 1


class KeptWriter:
    """Writes the documents one after the other."""

    def __init__(self, path: Path) -> None:
        self.raw = path.open("wb")
        self.stream = zstandard.ZstdCompressor(level=LEVEL).stream_writer(self.raw)

    def add(self, text: str) -> None:
        """One document."""
        data = text.encode()
        self.stream.write(_LENGTH.pack(len(data)))
        self.stream.write(data)

    def __enter__(self) -> "KeptWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stream.close()
        self.raw.close()


def read_kept(path: Path) -> Iterator[str]:
    """The documents in order. UserError where the file is damaged."""
    try:
        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            while head := stream.read(_LENGTH.size):
                size = _LENGTH.unpack(head)[0]
                data = stream.read(size)
                if len(data) != size:
                    raise ValueError(f"it ends within a document ({len(data)} of {size} bytes)")
                yield data.decode()
    except (zstandard.ZstdError, struct.error, ValueError) as error:
        raise UserError(
            f"{path} is damaged: {error}. Start the command again with --fresh: the work begins anew."
        ) from None
