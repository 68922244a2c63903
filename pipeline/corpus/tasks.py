"""Work units: byte ranges, row groups or whole files of about corpus.task_bytes each, planned from sizes alone.

Never from the number of workers: the same input gives the same tasks everywhere, and their order is the order of the
documents. A plain text file of any size is cut into ranges; small files share a task; a compressed file is one span,
because it cannot be entered in the middle, but for a dump in bzip2, whose streams can be.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.base.storage import is_url
from pipeline.corpus.arrow import read_arrow, record_batch_bytes
from pipeline.corpus.files import InputFile
from pipeline.corpus.first_bytes import fault_of_file
from pipeline.corpus.jsonl import read_jsonl
from pipeline.corpus.mediawiki import read_mediawiki
from pipeline.corpus.parquet import read_parquet, row_group_bytes
from pipeline.corpus.records import Record, Tally
from pipeline.corpus.text import read_text
from pipeline.corpus.warc import read_warc

EXPANSION = 4
"""Text is about that many times larger than its compressed file: only to size tasks."""
CHUNK = 1 << 20
RANGES = (".txt", ".jsonl", ".xml")
"""Kinds that are cut by bytes."""
MOST_SPANS = 1000
"""Files in one task at most, however small."""
_NAMES = {
    **{".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2"},
    **{".parquet": "Parquet", ".arrow": "Arrow", ".warc": "WARC", ".wet": "WARC", ".xml": "XML"},
}
"""Packings and kinds of which no whole file is empty."""


@dataclass(frozen=True)
class Span:
    """Bytes [start, stop) of a file of RANGES, row groups of a .parquet, record batches of an .arrow.

    stop None: to the end.
    """

    file: InputFile
    start: int
    stop: int | None
    weight: int

    @property
    def source(self) -> str:
        """Where the text comes from, without this machine's folders."""
        part = "" if self.stop is None else f":{self.start}-{self.stop}"
        return f"{self.file.name}{part}"


@dataclass(frozen=True)
class Task:
    """Spans that one worker reads one after the other; corpus: its name in a mixture, else ""."""

    spans: tuple[Span, ...]
    corpus: str = ""

    @property
    def weight(self) -> int:
        """About how many bytes of text there are."""
        return sum(span.weight for span in self.spans)

    @property
    def source(self) -> str:
        """First span, and how many more."""
        more = f" and {len(self.spans) - 1} more" if len(self.spans) > 1 else ""
        return f"{self.spans[0].source}{more}"


def plan_tasks(files: Sequence[InputFile], task_bytes: int, corpus: str = "") -> Iterator[Task]:
    """The tasks in reading order, each of at most task_bytes unless one span alone is larger."""
    spans: list[Span] = []
    weight = 0
    for file in files:
        for span in _spans(file, task_bytes):
            if spans and (weight + span.weight > task_bytes or len(spans) == MOST_SPANS):
                yield Task(tuple(spans), corpus)
                spans, weight = [], 0
            spans.append(span)
            weight += span.weight
    if spans:
        yield Task(tuple(spans), corpus)


def _spans(file: InputFile, task_bytes: int) -> Iterator[Span]:
    if file.size == 0:
        if _format(file):  # the worker sets it aside, with the reason
            yield Span(file, 0, None, 0)
        return
    if (file.kind, file.packing) == (".xml", ".bz2"):  # of many streams, which can be entered
        yield from _byte_spans(file, max(1, task_bytes // EXPANSION), EXPANSION)
    elif file.packing:
        yield Span(file, 0, None, file.size * EXPANSION)
    elif file.kind in (".parquet", ".arrow"):
        yield from _row_spans(file, task_bytes)
    elif file.kind in RANGES:
        yield from _byte_spans(file, task_bytes, 1)
    else:
        yield Span(file, 0, None, file.size)


def _format(file: InputFile) -> str | None:
    return _NAMES.get(file.packing or file.kind)


def _byte_spans(file: InputFile, size: int, expansion: int) -> Iterator[Span]:
    if file.size <= size:
        yield Span(file, 0, None, file.size * expansion)
        return
    for start in range(0, file.size, size):
        stop = min(start + size, file.size)
        yield Span(file, start, stop, (stop - start) * expansion)


def _row_spans(file: InputFile, task_bytes: int) -> Iterator[Span]:
    if file.kind == ".parquet":
        groups = row_group_bytes(file.place)
    else:
        groups = None if is_url(file.place) else record_batch_bytes(file.place)
    if groups is None:  # where it is damaged, the worker sets the file aside, with the reason
        yield Span(file, 0, None, file.size)
        return
    first = weight = 0
    for group, size in enumerate(groups):
        if group > first and weight + size > task_bytes:
            yield Span(file, first, group, weight)
            first, weight = group, 0
        weight += size
    if groups:
        yield Span(file, first, len(groups), weight)


def read_span(span: Span, field: str, limit: int, tally: Tally, url_field: str = "") -> Iterator[Record]:
    """Every record of the span, good and bad, in order; `tally` counts its lines."""
    file = span.file
    if file.size == 0 and (name := _format(file)):
        tally.lines += 1
        return iter([Record(tally.lines, 0, reason=f"truncated {name}: the file is empty")])
    if span.start and file.kind in RANGES and not file.packing and (fault := fault_of_file(file.place)):
        return iter([Record(0, 0, reason=fault)])  # the line is the first range's; each counts its bytes as lost
    if file.kind == ".txt":
        return read_text(file.place, file.packing, span.start, span.stop, limit, tally)
    if file.kind in (".warc", ".wet"):
        return read_warc(file.place, file.packing, limit, tally)
    if file.kind == ".xml":
        return read_mediawiki(file.place, file.packing, span.start, span.stop, limit, tally)
    read = {".jsonl": read_jsonl, ".parquet": read_parquet, ".arrow": read_arrow}[file.kind]
    return read(file.place, file.packing, span.start, span.stop, field, limit, tally, url_field)


def span_digest(span: Span) -> str:
    """SHA-256 of the bytes that the span reads: of the whole file for the first span of one that is not cut by bytes.

    "" for the other spans of such a file, and for a place in a store, whose own tag of the content is compared.
    """
    return content_digest(span.file, span.start, span.stop if span.file.kind in RANGES else None)


def content_digest(file: InputFile, start: int, stop: int | None) -> str:
    """SHA-256 of the bytes [start, stop) of a file of this machine, stop None: to its end; "" where none is taken."""
    if is_url(file.place) or (stop is None and start > 0):
        return ""
    digest = hashlib.sha256()
    left = file.size - start if stop is None else stop - start
    with open(file.place, "rb") as raw:
        raw.seek(start)
        while left > 0 and (data := raw.read(min(CHUNK, left))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()
