"""Lines of a chunk stream, in bounded memory: a line longer than the limit is measured but not kept."""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.corpus.streams import Damage

BOM = b"\xef\xbb\xbf"
BLANK_LIMIT = 4096
"""A longer line is never blank, so that whether the line before an offset is blank can be told from few bytes."""


class Line(NamedTuple):
    """A line without its newline. `content` is None past the limit; `cut` marks the last line of a damaged file."""

    start: int
    size: int
    content: bytes | None
    cut: bool = False


def split_lines(chunks: Iterator[bytes], limit: int, start: int = 0) -> Iterator[Line]:
    """Lines of the stream, which begins at byte `start`. Passes Damage on after a last line marked `cut`."""
    pending: list[bytes] = []
    size = 0
    try:
        for chunk in chunks:
            head, *rest = chunk.split(b"\n")
            size += len(head)
            if size <= limit:
                pending.append(head)
            else:
                pending.clear()
            if not rest:
                continue
            yield Line(start, size, b"".join(pending) if size <= limit else None)
            start += size + 1
            for content in rest[:-1]:
                yield Line(start, len(content), content if len(content) <= limit else None)
                start += len(content) + 1
            pending, size = [rest[-1]], len(rest[-1])
    except Damage:
        if size:
            yield Line(start, size, b"".join(pending) if size <= limit else None, cut=True)
        raise
    if size:
        yield Line(start, size, b"".join(pending) if size <= limit else None)


def is_blank(content: bytes | None) -> bool:
    """Whether a line has nothing but white space (of any script), a byte order mark before it apart."""
    if content is None or len(content) > BLANK_LIMIT:
        return False
    content = content.removeprefix(BOM)
    if not content or content.isspace():
        return True
    if 0x20 < content[0] < 0x7F:
        return False
    try:
        return content.decode().isspace()
    except UnicodeDecodeError:
        return False
