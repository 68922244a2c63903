"""Reads a file as a run does: planned, cut, and every span's lines made absolute."""

from pathlib import Path

from pipeline.corpus.files import find_files
from pipeline.corpus.records import Record, Tally
from pipeline.corpus.tasks import plan_tasks, read_span

LIMIT = 1 << 20


def read_file(path: Path, task_bytes: int = 1 << 25, field: str = "text", limit: int = LIMIT) -> list[Record]:
    """The records of one file, good and bad."""
    records = []
    before = 0
    for task in plan_tasks(find_files([str(path)]), task_bytes):
        for span in task.spans:
            tally = Tally()
            for record in read_span(span, field, limit, tally, "url"):
                records.append(record._replace(line=before + record.line))
            before += tally.lines
    return records


def texts_of(records: list[Record]) -> list[str]:
    """Texts of the good ones."""
    return [record.text for record in records if record.text is not None]


def reasons_of(records: list[Record]) -> list[str]:
    """Reasons of the bad ones."""
    return [record.reason for record in records if record.reason is not None]
