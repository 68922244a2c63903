"""Valid documents of one task, cleaned, with their digests; bad records go to a file of the task; all is counted.

A document's digest is a hash of its text alone, as it is after cleaning. It decides the split, so a document never
moves between splits, whatever the order, the seed or the rest of the corpus.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from pipeline.base.corpus_sections import CorpusConfig
from pipeline.corpus.records import Record, Tally, fault_of
from pipeline.corpus.scripts import ScriptSample
from pipeline.corpus.tasks import Task, read_span, span_digest

if TYPE_CHECKING:
    from pipeline.cleaning.cleaner import Cleaner
    from pipeline.cleaning.contamination import Contamination

DIGEST_BYTES = 16
TRAIN, VALIDATION = "train", "validation"
SPLITS = (TRAIN, VALIDATION)
BATCH_CHARACTERS, BATCH_RECORDS = 1 << 20, 512
"""Documents are compared with evaluation files in batches."""
DAMAGE = ("damaged", "truncated")
"""How the reasons begin that stand for the rest of a file."""
EXAMPLES = 5
EXAMPLE_CHARACTERS = 200
FAILED = "task failed"
"""Reason of a range of input that was set aside as a whole."""
EMPTIED, CONTAMINATION = "cleaning", "decontaminate"
"""Filters' names of a document of which cleaning left nothing, and of one that shares text with an evaluation file."""


class Document(NamedTuple):
    """A valid text, its UTF-8, that one's hash (16 bytes), and where it was: number of the span, line in the span."""

    text: str
    data: bytes
    digest: bytes
    span: int = 0
    line: int = 0


def document_of(text: str) -> Document:
    """A text whose place does not matter."""
    data = text.encode()
    return Document(text, data, data_digest(data))


def text_digest(text: str) -> bytes:
    """BLAKE2b of the text's UTF-8, 16 bytes."""
    return data_digest(text.encode())


def data_digest(data: bytes) -> bytes:
    """The same, of the UTF-8."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def split_of(digest: bytes, validation_fraction: float) -> str:
    """The split of a document, by its digest alone."""
    share = int.from_bytes(digest[:8], "big") / 2**64
    return VALIDATION if share < validation_fraction else TRAIN


@dataclass
class FilterCount:
    """What one filter dropped. An example is [span, line in it, reason, beginning of the text as the filter saw it];
    characters are those of the texts as they were read."""

    documents: int = 0
    characters: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    examples: list[list[Any]] = field(default_factory=list)


@dataclass
class ReadReport:
    """What one task found; plain JSON values in all fields.

    lines: those that begin in each span, -1 where it was not read; spans: [documents, characters, dropped, ends of
    damage] of each; digests: of the bytes of each; digest: over the kept documents, in order; scripts: letters of a
    sample, by script; filters: all that are on, in their order; contamination: {evaluation file: {"dropped", "cut"}},
    all files.
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


def given_up(report: ReadReport, reason: str) -> ReadReport:
    """The report of a task of which nothing is kept, because it failed again and again."""
    spans = [[0, 0, dropped + 1, damage] for _, _, dropped, damage in report.spans]
    reasons = report.reasons | {FAILED: len(spans)}
    return replace(report, kept=0, characters=0, text_bytes=0, spans=spans, reasons=reasons, aside=reason)


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
        names = [*cleaner.names, *([] if contamination is None else [CONTAMINATION])]
        files = () if contamination is None else contamination.names
        self.report = ReadReport(
            filters={name: FilterCount() for name in names},
            contamination={file: {"dropped": 0, "cut": 0} for file in files},
        )
        self.dropped = self.damage = 0

    def __iter__(self) -> Iterator[Document]:
        report, kept, scripts = self.report, hashlib.sha256(), ScriptSample()
        before = Counter(self.cleaner.edits), Counter(self.cleaner.languages)
        for number, span in enumerate(self.task.spans):
            tally, documents, characters = Tally(), 0, 0
            self.dropped = self.damage = 0
            for record, text in self._kept(number, tally):
                data = text.encode()
                digest = data_digest(data)
                kept.update(digest)
                documents += 1
                characters += len(text)
                scripts.add(text)
                report.text_bytes += record.size
                yield Document(text, data, digest, number, record.line)
            report.lines.append(tally.lines)
            report.spans.append([documents, characters, self.dropped, self.damage])
            report.digests.append(span_digest(span))
            report.kept += documents
            report.characters += characters
        report.reasons, report.scripts = dict(sorted(report.reasons.items())), scripts.counts()
        report.edits = dict(sorted((Counter(self.cleaner.edits) - before[0]).items()))
        report.languages = dict(sorted((Counter(self.cleaner.languages) - before[1]).items()))
        report.digest = kept.hexdigest()

    def _kept(self, number: int, tally: Tally) -> Iterator[tuple[Record, str]]:
        """The span's records that are valid and pass all filters, with their texts after them."""
        config, waiting, size = self.config, [], 0
        for record in read_span(
            self.task.spans[number], self._field(), config.max_record_bytes, tally, config.url_field
        ):
            if record.text is None:
                self._set_aside(record, number)
                continue
            if not self.changes:
                yield record, record.text
                continue
            outcome = self.cleaner.apply(record.text, record.url)
            if outcome.text is None:
                self._drop(outcome.filter, outcome.reason, record, number, outcome.shown)
                continue
            waiting.append((record, outcome.text))
            size += len(outcome.text)
            if self.contamination is None or size >= BATCH_CHARACTERS or len(waiting) == BATCH_RECORDS:
                yield from self._checked(waiting, number)
                waiting, size = [], 0
        yield from self._checked(waiting, number)

    def _checked(self, records: list[tuple[Record, str]], number: int) -> Iterator[tuple[Record, str]]:
        """Without what evaluation files have, and what cleaning left empty."""
        texts = [text for _, text in records]
        hits = self.contamination.check_many(texts) if self.contamination is not None and texts else [None] * len(texts)
        for (record, text), hit in zip(records, hits, strict=True):
            if hit is not None:
                self._count_hit(hit.files, cut=hit.text is not None)
                if hit.text is None:
                    self._drop(CONTAMINATION, f"{', '.join(hit.files)}: {hit.sequence}", record, number, text)
                    continue
            cleaned = text if hit is None or hit.text is None else hit.text
            fault = fault_of(cleaned) if cleaned is not record.text else None
            if fault is not None:
                self._drop(EMPTIED, f"{fault} left", record, number, text)
                continue
            yield record, cleaned

    def _count_hit(self, files: Sequence[str], *, cut: bool) -> None:
        for file in files:
            self.report.contamination[file]["cut" if cut else "dropped"] += 1

    def _set_aside(self, record: Record, number: int) -> None:
        self.bad.write(json.dumps([number, record.line, record.reason, record.size]) + "\n")
        kind = str(record.reason).partition(": ")[0]
        self.report.reasons[kind] = self.report.reasons.get(kind, 0) + 1
        self.report.bad += 1
        self.damage += kind.startswith(DAMAGE)
        self.dropped += 1

    def _field(self) -> str:
        source = self.config.corpora.get(self.task.corpus)
        return source.text_field if source is not None and source.text_field else self.config.text_field

    def _drop(self, name: str, reason: str, record: Record, span: int, shown: str) -> None:
        count = self.report.filters.setdefault(name, FilterCount())
        kind = reason.partition(": ")[0]
        count.documents += 1
        count.characters += len(record.text or "")
        count.reasons[kind] = count.reasons.get(kind, 0) + 1
        if len(count.examples) < EXAMPLES:
            count.examples.append([span, record.line, reason, shown[:EXAMPLE_CHARACTERS]])
        self.dropped += 1
