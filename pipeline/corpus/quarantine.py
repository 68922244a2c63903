"""data/quarantine.jsonl: every record set aside, with file, line (from 1), reason, bytes; and when there are too many.

Tasks know lines relative to their span; a running sum over the spans of a file makes them absolute. A range of input
whose task failed again and again is set aside as a whole, and has no line; nor have the records of its file behind it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.files import complete_file, write_atomic
from pipeline.corpus.documents import FAILED, ReadReport
from pipeline.corpus.tasks import Task

SHOWN = 3
Read = tuple[int, Task, ReadReport, list[int]]
"""Number, task, report, and the lines of its files before each of its spans."""


def write_quarantine(path: Path, reads: Iterable[Read], bad: Callable[[int], Path], keep: int = 0) -> int:
    """Joins the tasks' files of bad records, in reading order, into the quarantine file.

    keep: so many lines of the file that is there stay, those of an older revision. Returns the file's lines.
    """
    lines = keep
    with complete_file(path) as aside, open(aside, "w", encoding="utf-8") as out:
        if keep:
            with path.open(encoding="utf-8") as older:
                out.writelines(line for _, line in zip(range(keep), older, strict=False))
        for number, task, report, firsts in reads:
            for span in task.spans if report.aside else ():
                part = "" if span.stop is None else f", bytes {span.start:,} to {span.stop:,}"
                reason = f"{FAILED}: {report.aside}{part}"
                out.write(_line(span.file.path, None, reason, span.weight))
                lines += 1
            for at, line, reason, size in _entries(bad(number)):
                out.write(_line(task.spans[at].file.path, line_at(firsts[at], line), reason, size))
                lines += 1
    return lines


def line_at(before: int, line: int) -> int | None:
    """The line in the file, by the file's lines before its part; None where a part before it was not read (-1)."""
    return before + line if before >= 0 else None


def cut_quarantine(path: Path, lines: int) -> None:
    """Keeps the first lines of the file, those of the data set that is there."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            kept = "".join(line for _, line in zip(range(lines), file, strict=False))
        write_atomic(path, kept)


def _line(file: str, line: int | None, reason: str, size: int) -> str:
    entry = {"file": file, "line": line, "reason": reason, "bytes": size}
    return json.dumps(entry, ensure_ascii=False).encode(errors="replace").decode() + "\n"


def _entries(path: Path) -> Iterator[tuple[int, int, str, int]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            number, at, reason, size = json.loads(line)
            yield number, at, reason, size


class BadCount:
    """Adds up what is bad, and says when it is too much."""

    def __init__(self) -> None:
        self.kept = self.bad = self.dropped = 0
        self.bytes = self.lost_bytes = 0
        self.lost: list[str] = []
        """Ranges of input of which nothing was got."""
        self.reasons: Counter[str] = Counter()

    def add(self, task: Task, report: ReadReport) -> None:
        """One task's."""
        self.kept += report.kept
        self.bad += report.bad
        self.dropped += sum(count.documents for count in report.filters.values())
        self.bytes += task.weight
        self.reasons.update(report.reasons)
        if report.aside:
            self._lose(task.weight, f"{task.source}: {report.aside}")
            return
        for span, (documents, _, dropped, damage) in zip(task.spans, report.spans, strict=True):
            if damage and documents == dropped - damage == 0:
                self._lose(span.weight, f"{span.source}: damaged from its beginning")

    def _lose(self, weight: int, told: str) -> None:
        self.lost_bytes += weight
        self.lost += [told][: SHOWN - len(self.lost)]

    def check(self, most: float, quarantine: Path, paths: Sequence[str], *, first: bool = True) -> None:
        """UserError when no document is left, or a larger share of the records or of the bytes than `most` is bad.

        first: nothing was kept before these; files that are added may hold nothing.
        """
        records = self.kept + self.bad + self.dropped
        if not first and not self.bad and not self.kept:
            return
        if self.kept and self.bad <= most * records:
            return self._check_lost(most, quarantine)
        lines = [f"  {count:,} x {reason}" for reason, count in self.reasons.most_common(5)]
        lines += [f"  such as {_place(entry)}: {entry['reason']}" for entry in _first(quarantine)]
        listed = "\n".join(["", *lines])
        if self.kept:
            raise UserError(
                f"{self.bad:,} of {records:,} records ({self.bad / records:.2%}) cannot be used, more than "
                f"corpus.max_bad_fraction {most:g}. Each is listed in {quarantine}:{listed}\n"
                "Mend the files, or raise corpus.max_bad_fraction to go on without these records."
            )
        if self.lost:
            self._check_lost(most, quarantine)
        if self.dropped:
            raise UserError(
                f"no document is left: the filters of corpus.clean and corpus.decontaminate dropped all "
                f"{self.dropped:,}. Loosen them, or check corpus.paths ({', '.join(paths)})."
            )
        set_aside = f"{self.reasons.total():,} records or ranges were set aside, see {quarantine}:{listed}"
        told = set_aside if self.reasons else "the files hold only blank lines."
        raise UserError(
            f"no valid document in corpus.paths ({', '.join(paths)}): {told}\n"
            "Check corpus.paths and corpus.text_field; a document needs at least one visible character."
        )

    def _check_lost(self, most: float, quarantine: Path) -> None:
        """Few records may be bad and much be lost all the same: a damaged archive is one record."""
        if self.lost_bytes <= most * self.bytes:
            return
        listed = "\n  ".join(["", *self.lost])
        raise UserError(
            f"of {self.lost_bytes / self.bytes:.2%} of the input's bytes nothing was got, more than "
            f"corpus.max_bad_fraction {most:g}: damaged files, or tasks that failed again and again. All are listed in "
            f"{quarantine}:{listed}\nMend the files, or raise corpus.max_bad_fraction to go on without them."
        )


def _place(entry: dict[str, Any]) -> str:
    return entry["file"] if entry["line"] is None else f"{entry['file']}:{entry['line']}"


def _first(quarantine: Path) -> list[dict[str, Any]]:
    with quarantine.open(encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(SHOWN), file, strict=False)]
