"""What all tasks have found, added up mark by mark, so that the driver's memory does not grow with them.

A data set that grows goes on from the totals of its older revision, which are plain JSON values beside its manifest.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from pipeline.corpus.documents import EXAMPLES, ReadReport, given_up
from pipeline.corpus.quarantine import Read, line_at
from pipeline.corpus.tasks import Task
from pipeline.stages.length_counts import LengthCounts
from pipeline.stages.preprocess_work import Pass, Work

MOST_INPUTS = 100
"""Where there are more files they are joined by folder, and where there are more folders the smallest are joined."""

Plain = dict[str, Any]
NONE_FAILED: Mapping[int, str] = {}


class Totals:
    """Sums over the tasks. by_folder: inputs are counted by folder, not by file."""

    def __init__(self, *, by_folder: bool) -> None:
        self.by_folder = by_folder
        self.sums: Counter[str] = Counter()
        """kept, bad, characters, text_bytes, files, file_bytes, tasks, words, frequency_tasks."""
        self.counts: dict[str, Counter[str]] = {}
        """reasons, scripts, edits, languages."""
        self.inputs: dict[str, Counter[str]] = {}
        self.filters: dict[str, Plain] = {}
        """By name, of a mixture by "corpus: name"."""
        self.contamination: dict[str, Counter[str]] = {}
        self.splits: dict[str, Plain] = {}
        self.lengths: defaultdict[str, LengthCounts] = defaultdict(LengthCounts)
        """Of the documents of each split, in tokens."""
        self.duplicates: Plain = {}

    def count(self, name: str) -> Counter[str]:
        """One of the counters by name."""
        return self.counts.setdefault(name, Counter())

    def add_input(self, name: str, **values: int) -> None:
        """Adds to what is counted of an input file, or of its folder."""
        key = f"{PurePath(name).parent}/" if self.by_folder else name
        self.inputs.setdefault(key, Counter()).update(values)

    def add_read(self, task: Task, report: ReadReport, first_lines: list[int]) -> None:
        """Adds what reading a task found; first_lines: lines of its files before each of its spans."""
        self.sums.update(kept=report.kept, bad=report.bad, characters=report.characters, text_bytes=report.text_bytes)
        for name in ("reasons", "scripts", "edits", "languages"):
            self.count(name).update(getattr(report, name))
        for span, (documents, characters, dropped, _) in zip(task.spans, report.spans, strict=False):
            self.add_input(span.file.name, documents=documents, characters=characters, dropped=dropped)
        for file, counts in report.contamination.items():
            self.contamination.setdefault(file, Counter()).update(counts)
        for name, found in report.filters.items():
            total = self.filters.setdefault(f"{task.corpus}: {name}" if task.corpus else name, _filter(task, name))
            total["documents"] += found.documents
            total["characters"] += found.characters
            for reason, number in found.reasons.items():
                total["reasons"][reason] = total["reasons"].get(reason, 0) + number
            for span_number, line, reason, text in found.examples[: EXAMPLES - len(total["examples"])]:
                file = task.spans[span_number].file.path
                at = line_at(first_lines[span_number], line)
                total["examples"].append({"file": file, "line": at, "reason": reason, "text": text})

    def add_split(self, split: str, report: Plain) -> None:
        """Adds a task's part of a split."""
        total = self.splits.setdefault(split, {"documents": 0, "characters": 0, "tokens": 0, "unknown": 0})
        for name in total:
            total[name] += report[name]
        self.lengths[split].add_packed(report["lengths"])

    def plain(self) -> Plain:
        """All of it as JSON values."""
        lengths = {split: counts.bins() for split, counts in self.lengths.items()}
        return {name: getattr(self, name) for name in _FIELDS} | {"by_folder": self.by_folder, "lengths": lengths}

    @classmethod
    def of(cls, plain: Plain) -> "Totals":
        """From the values of `plain`."""
        totals = cls(by_folder=plain["by_folder"])
        totals.sums = Counter(plain["sums"])
        totals.counts = {name: Counter(counts) for name, counts in plain["counts"].items()}
        totals.inputs = {name: Counter(counts) for name, counts in plain["inputs"].items()}
        totals.contamination = {name: Counter(counts) for name, counts in plain["contamination"].items()}
        totals.filters = {key: {"name": key} | found for key, found in plain["filters"].items()}
        totals.splits, totals.duplicates = plain["splits"], plain["duplicates"]
        for split, bins in plain.get("lengths", {}).items():
            totals.lengths[split].add_bins(bins)
        return totals


_FIELDS = ("sums", "counts", "inputs", "filters", "contamination", "splits", "duplicates")


def _filter(task: Task, name: str) -> Plain:
    """What a filter of the task's corpus has dropped: nothing yet."""
    corpus = {"corpus": task.corpus} if task.corpus else {}
    return {"name": name, **corpus, "documents": 0, "characters": 0, "reasons": {}, "examples": []}


def reads_in_order(
    work: Work, made: Pass, failed: Mapping[int, str] = NONE_FAILED, reports: Iterable[Plain] | None = None
) -> Iterator[Read]:
    """(number, task, report of its reading, lines of its files before each of its spans), from the marks.

    failed: tasks that have failed in a later pass, and why. reports: those of all tasks, where they are read already.
    Behind a range that was not read lines are unknown, -1.
    """
    path, before = "", 0
    reports = made.reports(range(len(work.tasks))) if reports is None else reports
    for number, (task, report) in enumerate(zip(work.tasks, reports, strict=True)):
        read = ReadReport.of(report.get("read", report))
        if number in failed:
            read = given_up(read, failed[number])
        firsts = []
        for span, lines in zip(task.spans, read.lines, strict=True):
            if span.file.path != path or span.start == 0:
                path, before = span.file.path, 0
            firsts.append(before)
            before = before + lines if before >= 0 and lines >= 0 else -1
        yield number, task, read, firsts
