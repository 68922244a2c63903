"""Valid documents of one task, cleaned, with their digests; bad records go to a file of the task; all is counted.

A document's digest is a hash of its text alone, as it is after cleaning. It decides the split, so a document never
moves between splits, whatever the order, the seed or the rest of the corpus.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from pipeline.base.corpus_sections import CorpusConfig
from pipeline.corpus.records import Record, Tally, fault_of
from pipeline.corpus.scripts import count_scripts
from pipeline.corpus.tasks import Task, read_span, span_digest

if TYPE_CHECKING:
    from pipeline.cleaning.cleaner import Cleaner
    from pipeline.cleaning.contamination import Contamination

DIGEST_BYTES = 16
TRAIN, VALIDATION = "train", "validation"
SPLITS = (TRAIN, VALIDATION)
EXAMPLES = 5
EXAMPLE_CHARACTERS = 200
EMPTIED, CONTAMINATION = "cleaning", "decontaminate"
"""Filters' names of a document of which cleaning left nothing, and of one that shares text with an evaluation file."""


class Document(NamedTuple):
    """A valid text, the 16 bytes of its hash, and where it was: number of the span in the task, line in the span."""

    text: str
    digest: bytes
    span: int = 0
    line: int = 0


def text_digest(text: str) -> bytes:
    """BLAKE2b of the text's UTF-8, 16 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def split_of(digest: bytes, validation_fraction: float) -> str:
    """The split of a document, by its digest alone."""
    share = int.from_bytes(digest[:8], "big") / 2**64
    return VALIDATION if share < validation_fraction else TRAIN


@dataclass
class FilterCount:
    """What one filter dropped. An example is [span, line in it, reason, beginning of the text]."""

    documents: int = 0
    characters: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    examples: list[list[Any]] = field(default_factory=list)


@dataclass
class ReadReport:
    """What one task found; plain JSON values in all fields.

    lines: those that begin in each span; spans: [documents, characters, dropped] of each; digests: of the bytes of
    each; digest: over the kept documents, in order; scripts: letters of a sample, by script; contamination:
    {evaluation file: {"dropped", "cut"}}.
    """

    kept: int = 0
    bad: int = 0
    characters: int = 0
    text_bytes: int = 0
    lines: list[int] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    spans: list[list[int]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    scripts: dict[str, int] = field(default_factory=dict)
    filters: dict[str, FilterCount] = field(default_factory=dict)
    edits: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    contamination: dict[str, dict[str, int]] = field(default_factory=dict)
    aside: str = ""
    """Why the whole task was given up, where it was."""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "ReadReport":
        """From the plain values of `dataclasses.asdict`."""
        filters = {name: FilterCount(**count) for name, count in plain["filters"].items()}
        return cls(**{**plain, "filters": filters})


class TaskDocuments:
    """Iterates over the valid documents of a task once; then `report` is complete.

    bad: gets a JSON line for each bad record: [number of the span in the task, line in the span, reason, bytes].
    """

    def __init__(
        self,
        task: Task,
        config: CorpusConfig,
        bad: IO[str],
        cleaner: "Cleaner",
        contamination: "Contamination | None" = None,
    ) -> None:
        self.task, self.config, self.bad = task, config, bad
        self.cleaner, self.contamination = cleaner, contamination
        self.changes = cleaner.active or contamination is not None
        self.report = ReadReport()
        self.dropped = 0

    def __iter__(self) -> Iterator[Document]:
        report, config, kept = self.report, self.config, hashlib.sha256()
        reasons, scripts = Counter[str](), Counter[str]()
        before = Counter(self.cleaner.edits), Counter(self.cleaner.languages)
        for number, span in enumerate(self.task.spans):
            tally, documents, characters, bad = Tally(), 0, 0, 0
            self.dropped = 0
            for record in read_span(span, self._field(), config.max_record_bytes, tally, config.url_field):
                text = record.text
                if text is None:
                    self.bad.write(json.dumps([number, record.line, record.reason, record.size]) + "\n")
                    reasons[str(record.reason).partition(": ")[0]] += 1
                    bad += 1
                    continue
                if self.changes:
                    text = self._cleaned(record, text, number)
                    if text is None:
                        continue
                digest = text_digest(text)
                kept.update(digest)
                documents += 1
                characters += len(text)
                count_scripts(text, scripts)
                report.text_bytes += record.size
                yield Document(text, digest, number, record.line)
            report.lines.append(tally.lines)
            report.spans.append([documents, characters, bad + self.dropped])
            report.digests.append(span_digest(span))
            report.kept += documents
            report.characters += characters
            report.bad += bad
        report.reasons, report.scripts = dict(sorted(reasons.items())), dict(sorted(scripts.items()))
        report.edits = dict(sorted((Counter(self.cleaner.edits) - before[0]).items()))
        report.languages = dict(sorted((Counter(self.cleaner.languages) - before[1]).items()))
        report.digest = kept.hexdigest()

    def _field(self) -> str:
        source = self.config.corpora.get(self.task.corpus)
        return source.text_field if source is not None and source.text_field else self.config.text_field

    def _cleaned(self, record: Record, text: str, span: int) -> str | None:
        """The text after all filters; None where it is dropped, which is counted."""
        outcome = self.cleaner.apply(text, record.url)
        if outcome.text is None:
            self._drop(outcome.filter, outcome.reason, record, span)
            return None
        cleaned = outcome.text
        hit = self.contamination.check(cleaned) if self.contamination is not None else None
        if hit is not None:
            what = "dropped" if hit.text is None else "cut"
            for file in hit.files:
                counts = self.report.contamination.setdefault(file, {"dropped": 0, "cut": 0})
                counts[what] += 1
            if hit.text is None:
                self._drop(CONTAMINATION, f"{', '.join(hit.files)}: {hit.sequence}", record, span)
                return None
            cleaned = hit.text
        fault = fault_of(cleaned) if cleaned is not text else None
        if fault is not None:
            self._drop(EMPTIED, f"{fault} left", record, span)
            return None
        return cleaned

    def _drop(self, name: str, reason: str, record: Record, span: int) -> None:
        count = self.report.filters.setdefault(name, FilterCount())
        text = record.text or ""
        kind = reason.partition(": ")[0]
        count.documents += 1
        count.characters += len(text)
        count.reasons[kind] = count.reasons.get(kind, 0) + 1
        if len(count.examples) < EXAMPLES:
            count.examples.append([span, record.line, reason, text[:EXAMPLE_CHARACTERS]])
        self.dropped += 1
