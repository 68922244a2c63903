"""The streams of a bzip2 file that begin in a range of its bytes: many workers read a file of many streams.

Wikipedia's multistream dumps have a stream every hundred pages. A stream begins at a byte, with ten fixed ones (BZh,
the block size, and the first 48 bits of a block, which are digits of pi): that they occur by chance is no concern
(2^-80 a byte). Price: of a file that is one stream, the first range has all and the others look through their bytes.
"""

import bz2
import re
from collections.abc import Iterator
from typing import IO

from pipeline.corpus.opening import open_input
from pipeline.corpus.streams import CHUNK, Damage

READ = 1 << 18
_BEGIN = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
_BEGIN_BYTES = 10


class _Reader:
    """Bytes of a file with the place they stand at."""

    def __init__(self, file: IO[bytes], start: int) -> None:
        self.file, self.place = file, start
        self.data = b""

    def more(self) -> bool:
        """Puts more bytes behind those that are left; False at the end."""
        read = self.file.read(READ)
        self.data += read
        return bool(read)

    def drop(self, size: int) -> None:
        """Leaves so many bytes behind."""
        self.data = self.data[size:]
        self.place += size

    def find(self, stop: int | None) -> bool:
        """Goes to the next beginning of a stream; False where there is none before `stop`."""
        while True:
            found = _BEGIN.search(self.data)
            if found:
                self.drop(found.start())
                return stop is None or self.place < stop
            self.drop(max(0, len(self.data) - _BEGIN_BYTES + 1))
            if (stop is not None and self.place >= stop) or not self.more():
                return False


def read_streams(path: str, start: int, stop: int | None) -> Iterator[tuple[bytes | Damage, bool]]:
    """Content from the first stream that begins in [start, stop) on, each chunk with whether its stream begins there.

    It goes on behind `stop`, where a page may end. After a broken stream the next one is looked for.
    """
    with open_input(path, start) as file:
        reader = _Reader(file, start)
        if start > 0 and not reader.find(stop):
            return
        while reader.data or reader.more():
            inside = stop is None or reader.place < stop
            try:
                for content in _stream(reader):
                    yield content, inside
            except Damage as damage:
                yield damage, inside
                reader.drop(1)
                if not reader.find(None):
                    return


def _stream(reader: _Reader) -> Iterator[bytes]:
    stream = bz2.BZ2Decompressor()
    while not stream.eof:
        if stream.needs_input and not reader.data and not reader.more():
            raise Damage("truncated bzip2: it ends inside a stream")
        try:
            out = stream.decompress(reader.data, CHUNK)
        except OSError as error:
            raise Damage(f"damaged bzip2: {error}") from None
        rest = stream.unused_data
        reader.drop(len(reader.data) - len(rest))
        yield out
