"""Valid documents of one task, with their digests; bad records go to a file of the task, and everything is counted.

A document's digest is a hash of its text alone. It decides the split, so a document never moves between splits,
whatever the order, the seed or the rest of the corpus.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.base.corpus_sections import CorpusConfig
from pipeline.base.files import complete_file
from pipeline.corpus.records import Tally
from pipeline.corpus.scripts import count_scripts
from pipeline.corpus.tasks import Task, read_span

DIGEST_BYTES = 16
TRAIN, VALIDATION = "train", "validation"
SPLITS = (TRAIN, VALIDATION)


class Document(NamedTuple):
    """A valid text and the 16 bytes of its hash."""

    text: str
    digest: bytes


def text_digest(text: str) -> bytes:
    """BLAKE2b of the text's UTF-8, 16 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def split_of(digest: bytes, validation_fraction: float) -> str:
    """The split of a document, by its digest alone."""
    share = int.from_bytes(digest[:8], "big") / 2**64
    return VALIDATION if share < validation_fraction else TRAIN


@dataclass
class SpanCount:
    """What one span of a task held."""

    documents: int = 0
    characters: int = 0
    dropped: int = 0


@dataclass
class ReadReport:
    """What one task found. `lines`: those that begin in each span; `digest`: over the kept documents, in order."""

    kept: int = 0
    bad: int = 0
    characters: int = 0
    text_bytes: int = 0
    lines: list[int] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    spans: list[SpanCount] = field(default_factory=list)
    scripts: dict[str, int] = field(default_factory=dict)
    """Letters of a sample, by script."""


class TaskDocuments:
    """Iterates over the valid documents of a task once; then `report` is complete and `bad_path` holds the bad records.

    A line of that file is [number of the span in the task, line in the span, reason, bytes].
    """

    def __init__(self, task: Task, config: CorpusConfig, bad_path: Path) -> None:
        self.task, self.config, self.bad_path = task, config, bad_path
        self.report = ReadReport()

    def __iter__(self) -> Iterator[Document]:
        report, kept = self.report, hashlib.sha256()
        reasons, scripts = Counter[str](), Counter[str]()
        with complete_file(self.bad_path) as aside, open(aside, "w", encoding="utf-8") as bad:
            for number, span in enumerate(self.task.spans):
                tally, count = Tally(), SpanCount()
                for record in read_span(span, self.config.text_field, self.config.max_record_bytes, tally):
                    if record.text is None:
                        bad.write(json.dumps([number, record.line, record.reason, record.size]) + "\n")
                        reasons[str(record.reason).partition(": ")[0]] += 1
                        count.dropped += 1
                        continue
                    digest = text_digest(record.text)
                    kept.update(digest)
                    count.documents += 1
                    count.characters += len(record.text)
                    count_scripts(record.text, scripts)
                    report.text_bytes += record.size
                    yield Document(record.text, digest)
                report.lines.append(tally.lines)
                report.spans.append(count)
        report.kept = sum(count.documents for count in report.spans)
        report.characters = sum(count.characters for count in report.spans)
        report.bad = sum(reasons.values())
        report.reasons, report.scripts = dict(sorted(reasons.items())), dict(sorted(scripts.items()))
        report.digest = kept.hexdigest()
