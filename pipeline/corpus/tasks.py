"""Work units: byte ranges, row groups or whole files of about corpus.task_bytes each, planned from sizes alone.

Never from the number of workers: the same input gives the same tasks everywhere, and their order is the order of the
documents. A plain text file of any size is cut into ranges; small files share a task; a compressed file is one span,
because it cannot be entered in the middle.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.corpus.files import InputFile
from pipeline.corpus.jsonl import read_jsonl
from pipeline.corpus.parquet import read_parquet, row_group_bytes
from pipeline.corpus.records import Record, Tally
from pipeline.corpus.text import read_text

EXPANSION = 4
"""Text is about that many times larger than its compressed file: only to size tasks."""
MOST_SPANS = 1000
"""Files in one task at most, however small."""


@dataclass(frozen=True)
class Span:
    """Bytes [start, stop) of a .txt or .jsonl file, row groups [start, stop) of a .parquet; stop None: to the end."""

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
    """Spans that one worker reads one after the other."""

    spans: tuple[Span, ...]

    @property
    def weight(self) -> int:
        """About how many bytes of text there are."""
        return sum(span.weight for span in self.spans)

    @property
    def source(self) -> str:
        """First span, and how many more."""
        more = f" and {len(self.spans) - 1} more" if len(self.spans) > 1 else ""
        return f"{self.spans[0].source}{more}"


def plan_tasks(files: Sequence[InputFile], task_bytes: int) -> list[Task]:
    """The tasks in reading order, each of at most task_bytes unless one span alone is larger."""
    tasks: list[Task] = []
    spans: list[Span] = []
    weight = 0
    for file in files:
        for span in _spans(file, task_bytes):
            if spans and (weight + span.weight > task_bytes or len(spans) == MOST_SPANS):
                tasks.append(Task(tuple(spans)))
                spans, weight = [], 0
            spans.append(span)
            weight += span.weight
    return [*tasks, Task(tuple(spans))] if spans else tasks


def _spans(file: InputFile, task_bytes: int) -> Iterator[Span]:
    if file.size == 0:
        return
    if file.packing:
        yield Span(file, 0, None, file.size * EXPANSION)
    elif file.kind == ".parquet":
        yield from _row_group_spans(file, task_bytes)
    elif file.size <= task_bytes:
        yield Span(file, 0, None, file.size)
    else:
        for start in range(0, file.size, task_bytes):
            stop = min(start + task_bytes, file.size)
            yield Span(file, start, stop, stop - start)


def _row_group_spans(file: InputFile, task_bytes: int) -> Iterator[Span]:
    groups = row_group_bytes(file.place)
    if groups is None:  # the worker sets the file aside, with the reason
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


def read_span(span: Span, field: str, limit: int, tally: Tally) -> Iterator[Record]:
    """Every record of the span, good and bad, in order; `tally` counts its lines."""
    file = span.file
    if file.kind == ".txt":
        return read_text(file.place, file.packing, span.start, span.stop, limit, tally)
    read = read_jsonl if file.kind == ".jsonl" else read_parquet
    return read(file.place, file.packing, span.start, span.stop, field, limit, tally)
