"""Plain text: documents are runs of lines that are not blank. A range of bytes owns the documents that begin in it.

Whether a range begins inside a document is told from the line before it, so any cut of the file gives the same
documents. A document that spans many ranges is read once, by the owner of its first line; the others look for its end.
"""

from collections.abc import Iterator

from pipeline.corpus.lines import BLANK_LIMIT, BOM, Line, is_blank, split_lines
from pipeline.corpus.opening import open_input
from pipeline.corpus.records import Record, Tally, record_of, too_long
from pipeline.corpus.streams import Damage, read_chunks

_ZEROS = b"\0" * 16
"""A run that no text has: where a file was made but not written, after a crash or in a copy that goes on."""


class _Document:
    """The lines of a document so far; past the limit only its size."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.size = -1
        self.lines: list[bytes] = []
        self.whole = True

    def add(self, line: Line, limit: int) -> None:
        self.size += line.size + 1
        if line.content is None or self.size > limit:
            self.whole = False
            self.lines.clear()
        elif self.whole:
            self.lines.append(line.content.removesuffix(b"\r").removeprefix(BOM))

    def record(self, limit: int) -> Record:
        if not self.whole:
            return Record(self.number, self.size, reason=too_long(limit))
        data = b"\n".join(self.lines)
        if _ZEROS in data or (b"\0" in data and 3 * data.count(b"\0") > len(data)):  # UTF-16 has every second byte zero
            return Record(self.number, self.size, reason="damaged text: NUL bytes")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            return Record(self.number, self.size, reason=f"invalid UTF-8: line {line} of the document")
        return record_of(self.number, self.size, text, decoded=True)


def read_text(path: str, packing: str, start: int, stop: int | None, limit: int, tally: Tally) -> Iterator[Record]:
    """Records of the documents whose first line begins in the bytes [start, stop); stop None: to the end."""
    lines = split_lines(read_chunks(path, packing, max(start - 1, 0), stop), limit, max(start - 1, 0))
    document: _Document | None = None
    try:
        foreign = start > 0 and not _blank_before(path, start, next(lines, None))
        for line in lines:
            inside = stop is None or line.start < stop
            if not inside and document is None:
                return
            tally.lines += inside
            if is_blank(line.content):
                foreign = False
                if document is not None:
                    yield document.record(limit)
                    document = None
            elif not foreign:
                document = document or _Document(tally.lines)
                document.add(line, limit)
        if document is not None:
            yield document.record(limit)
    except Damage as damage:
        tally.lines += document is None
        number, size = (document.number, document.size) if document is not None else (tally.lines, 0)
        yield Record(number, size, reason=str(damage))


def _blank_before(path: str, start: int, rest: Line | None) -> bool:
    """Whether the line before the first one that begins at or after byte `start` is blank.

    rest: the stream's first line when it is read from byte start - 1, which is the end of that line.
    """
    first = max(0, start - 1 - BLANK_LIMIT - len(BOM))
    with open_input(path, first, start - 1) as file:
        window = file.read(start - 1 - first)
    _, newline, tail = window.rpartition(b"\n")
    if not newline and first > 0:
        return False
    if rest is None or rest.content is None:
        return False
    return is_blank(tail + rest.content)
