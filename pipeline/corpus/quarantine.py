"""data/quarantine.jsonl: every record set aside, with file, line (from 1), reason, bytes; and when there are too many.

Tasks know lines relative to their span; a running sum over the spans of a file makes them absolute.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.files import complete_file
from pipeline.corpus.documents import ReadReport
from pipeline.corpus.tasks import Task

SHOWN = 3


def write_quarantine(path: Path, tasks: Sequence[Task], reports: Sequence[ReadReport], bad: Sequence[Path]) -> None:
    """Joins the tasks' files of bad records, in reading order, into the quarantine file."""
    before: Counter[str] = Counter()
    with complete_file(path) as aside, open(aside, "w", encoding="utf-8") as out:
        for task, report, file in zip(tasks, reports, bad, strict=True):
            firsts = []
            for span, lines in zip(task.spans, report.lines, strict=True):
                firsts.append(before[span.file.path])
                before[span.file.path] += lines
            for number, line, reason, size in _entries(file):
                name = task.spans[number].file.path
                entry = {"file": name, "line": firsts[number] + line, "reason": reason, "bytes": size}
                out.write(json.dumps(entry, ensure_ascii=False).encode(errors="replace").decode() + "\n")


def _entries(path: Path) -> Iterator[tuple[int, int, str, int]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            number, at, reason, size = json.loads(line)
            yield number, at, reason, size


def check_bad_fraction(reports: Sequence[ReadReport], most: float, quarantine: Path, paths: Sequence[str]) -> None:
    """UserError when no document is valid, or a larger share of the records than `most` is bad."""
    kept = sum(report.kept for report in reports)
    bad = sum(report.bad for report in reports)
    if kept and bad <= most * (kept + bad):
        return
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons.update(report.reasons)
    lines = [f"  {count:,} x {reason}" for reason, count in reasons.most_common(5)]
    lines += [f"  such as {entry['file']}:{entry['line']}: {entry['reason']}" for entry in _first(quarantine)]
    listed = "\n".join(["", *lines])
    if not kept:
        set_aside = f"{bad:,} records were set aside, see {quarantine}:{listed}"
        told = set_aside if bad else "the files hold only blank lines."
        raise UserError(
            f"no valid document in corpus.paths ({', '.join(paths)}): {told}\n"
            "Check corpus.paths and corpus.text_field; a document needs at least one visible character."
        )
    raise UserError(
        f"{bad:,} of {kept + bad:,} records ({bad / (kept + bad):.2%}) cannot be used, more than "
        f"corpus.max_bad_fraction {most:g}. Each is listed in {quarantine}:{listed}\n"
        "Mend the files, or raise corpus.max_bad_fraction to go on without these records."
    )


def _first(quarantine: Path) -> list[dict[str, str]]:
    with open(quarantine, encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(SHOWN), file, strict=False)]
