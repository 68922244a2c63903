"""What Ray workers do: read a task, tokenise a task, write a shard. Functions from files to files, repeatable.

Arguments are the scratch folder's place, its id and a number; everything else is read there. Each leaves its result
complete or not at all and marks it as finished. A worker holds one batch of documents (about a megabyte) and its model,
besides at most corpus.max_record_bytes of one record.
"""

import io
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from model.config import UNK_ID
from pipeline.base.arrays import append, save_array
from pipeline.base.cleaning_sections import CleanConfig
from pipeline.cleaning.cleaner import Cleaner
from pipeline.cleaning.contamination import Contamination
from pipeline.corpus.documents import SPLITS, Document, ReadReport, TaskDocuments, given_up, split_of
from pipeline.corpus.kept import KeptWriter, read_kept
from pipeline.corpus.records import fault_of
from pipeline.corpus.sample import Reservoir, task_quota
from pipeline.duplicates.drops import read_drops
from pipeline.duplicates.keys import KeyWriter
from pipeline.duplicates.paragraphs import apply_paragraphs
from pipeline.shards.block import token_dtype
from pipeline.stages.length_counts import LengthCounts
from pipeline.stages.preprocess_duplicates import noting_examples
from pipeline.stages.preprocess_work import Pass, TaskConfig, Work, opened
from pipeline.vocabulary.codec import Codec
from pipeline.vocabulary.reading import load_codec

if TYPE_CHECKING:
    from pipeline.base.config import RunConfig

BATCH_CHARACTERS = 1 << 20
BATCH_DOCUMENTS = 4096
KEPT_FILE = "texts.lz4"
FREQUENCY_TASKS = 200
"""About that many tasks, spread evenly, count how often each piece occurs."""


def frequency_stride(tasks: int) -> int:
    """Every how-manieth task counts the pieces."""
    return max(1, -(-tasks // FREQUENCY_TASKS))


@dataclass
class SplitReport:
    """A task's part of one split. lengths: LengthCounts.packed of documents' numbers of tokens, [SEP] included."""

    documents: int = 0
    characters: int = 0
    tokens: int = 0
    unknown: int = 0
    lengths: str = ""


@dataclass(frozen=True)
class Wants:
    """What the read pass has to keep for the passes after it."""

    sample: bool
    keys: bool
    texts: bool

    @property
    def any(self) -> bool:
        """Whether there is a read pass; else the tokenise pass is the only one that reads."""
        return self.sample or self.keys


def wants(config: "TaskConfig | RunConfig", revision: int) -> Wants:
    """By the config; a later revision keeps the tokenizer of the first."""
    corpus = config.corpus
    keys = corpus.deduplicate.active
    sample = config.tokenizer.path is None and revision == 1
    changes = bool(corpus.decontaminate.paths) or any(clean != CleanConfig() for clean in corpus.cleanings)
    return Wants(sample, keys, keys or (sample and changes))


def read_task(place: str, job: str, number: int) -> float:
    """First reading: validates, cleans, sets bad records aside; keeps a sample, the duplicates' keys, the texts.

    Returns the seconds that it took, as all tasks do.
    """
    began = time.monotonic()
    work = opened(place, job)
    with work.read.making(number) as (folder, report), open(folder / "bad", "w", encoding="utf-8") as bad:
        documents = _documents(work, number, bad)
        _write_read(work, number, folder, documents)
        report.update(asdict(documents.report))
    return time.monotonic() - began


def tokenize_task(place: str, job: str, number: int, sha256: str) -> float:
    """Encoding: the task's folder gets SPLIT.ids, SPLIT.starts and the documents' digests."""
    began = time.monotonic()
    work = opened(place, job)
    needed = wants(work.config, work.revision)
    with work.tokens(sha256).making(number) as (folder, report), ExitStack() as stack:
        documents: Iterable[Document]
        if needed.any and work.read.report(number)["aside"]:
            documents = ()
        elif needed.texts:
            documents = read_kept(work.read.folder(number) / KEPT_FILE)
        else:
            bad = io.StringIO() if needed.any else stack.enter_context(open(folder / "bad", "w", encoding="utf-8"))
            documents = _documents(work, number, bad)
        emptied: list[int] = []
        kept: Iterable[Document] = documents
        if needed.keys:
            kept = _without_copies(work, number, noting_examples(work, number, documents, folder), emptied)
        report.update(_write_tokens(work, number, sha256, folder, kept), emptied=len(emptied))
        if isinstance(documents, TaskDocuments):
            report["read"] = asdict(documents.report)
    return time.monotonic() - began


def give_up_task(work: Work, made: Pass, number: int, sha256: str | None, reason: str) -> None:
    """Leaves an empty result, marked as finished, for a task that failed again and again."""
    task = work.tasks.task(number)
    spans = len(task.spans)
    unread = ReadReport(spans=[[0, 0, 0, 0]] * spans, lines=[-1] * spans, digests=[""] * spans)
    read = given_up(unread, reason)
    with made.making(number) as (folder, report):
        (folder / "bad").touch()
        if sha256 is None:
            _write_read(work, number, folder, ())
            report.update(asdict(read))
        else:
            report.update(_write_tokens(work, number, sha256, folder, ()), read=asdict(read))


def _write_read(work: Work, number: int, folder: Path, documents: Iterable[Document]) -> None:
    config, needed = work.config, wants(work.config, work.revision)
    weights, most = work.tasks.weights, config.tokenizer.sample_bytes
    quota = task_quota(most, int(weights[number]), int(weights.sum()))
    sample = Reservoir(config.seed, quota, most) if needed.sample else None
    keys = KeyWriter(config.corpus.deduplicate) if needed.keys else None
    places: list[tuple[int, int]] = []
    with ExitStack() as stack:
        texts = stack.enter_context(KeptWriter(folder / KEPT_FILE)) if needed.texts else None
        for index, document in enumerate(documents):
            if sample is not None:
                sample.add(document.text, index)
            if texts is not None:
                texts.add(document)
            if keys is not None:
                keys.add(document.text, document.digest, document.data)
                places.append((document.span, document.line))
    if sample is not None:
        sample.save(folder / "sample")
    if keys is not None:
        keys.save(folder)
        save_array(folder / "places.npy", np.array(places, np.int64).reshape(-1, 2))


def _write_tokens(work: Work, number: int, sha256: str, folder: Path, documents: Iterable[Document]) -> dict[str, Any]:
    codec = _codec(str(work.path), work.id, sha256)
    segment = _Segment(folder, codec, counts=number % frequency_stride(len(work.tasks)) == 0)
    splits = segment.write(documents, work.config.corpus.validation_fraction)
    return {"splits": splits, "words": segment.words}


def _documents(work: Work, number: int, bad: IO[str]) -> TaskDocuments:
    task = work.tasks.task(number)
    corpus = work.config.corpus
    contamination = _contamination(work.contamination) if corpus.decontaminate.paths else None
    return TaskDocuments(task, corpus, bad, _cleaner(work, task.corpus), contamination)


def _cleaner(work: Work, corpus: str) -> Cleaner:
    source = work.config.corpus.corpora.get(corpus)
    return Cleaner(source.clean if source is not None and source.clean is not None else work.config.corpus.clean)


@lru_cache(maxsize=2)
def _contamination(path: Path) -> Contamination:
    return Contamination(path)


@lru_cache(maxsize=2)
def _codec(place: str, job: str, sha256: str) -> Codec:
    return load_codec(opened(place, job).tokens(sha256).path / "tokenizer.model")


def _without_copies(work: Work, number: int, documents: Iterable[Document], emptied: list[int]) -> Iterator[Document]:
    """The documents that are no copies, without paragraphs that are; emptied: gets those of which nothing is left."""
    drops = read_drops(work.duplicates, number)
    dropped = set(drops.documents.tolist())
    paragraphs: dict[int, list[int]] = {}
    for document, paragraph in drops.paragraphs.tolist():
        paragraphs.setdefault(document, []).append(paragraph)
    for index, document in enumerate(documents):
        if index in dropped:
            continue
        if index in paragraphs:
            text = apply_paragraphs(document.text, paragraphs[index])
            if fault_of(text) is not None:
                emptied.append(index)
                continue
            document = document._replace(text=text, data=text.encode())
        yield document


class _Segment:
    """Writes a task's documents as tokens, by split."""

    def __init__(self, folder: Path, codec: Codec, *, counts: bool) -> None:
        self.folder, self.codec, self.counts = folder, codec, counts
        self.dtype = token_dtype(codec.vocab_size)
        self.frequencies = np.zeros(codec.vocab_size, np.int64)
        self.words = 0
        self.reports = {split: SplitReport() for split in SPLITS}
        self.lengths = {split: LengthCounts() for split in SPLITS}

    def write(self, documents: Iterable[Document], validation_fraction: float) -> dict[str, Any]:
        """The report of each split."""
        with ExitStack() as stack:
            files = {
                (split, kind): stack.enter_context(open(self.folder / f"{split}.{kind}", "wb"))
                for split in SPLITS
                for kind in ("ids", "starts")
            }
            digests = stack.enter_context(open(self.folder / "digests", "wb"))
            for batch in _batches(documents):
                digests.write(b"".join(document.digest for document in batch))
                parts: dict[str, list[Document]] = {split: [] for split in SPLITS}
                for document in batch:
                    parts[split_of(document.digest, validation_fraction)].append(document)
                for split, some in parts.items():
                    if some:
                        self._add(split, some, files[split, "ids"], files[split, "starts"])
        if self.counts:
            save_array(self.folder / "frequencies.npy", self.frequencies)
        for split, report in self.reports.items():
            report.lengths = self.lengths[split].packed()
        return {split: vars(report) for split, report in self.reports.items()}

    def _add(self, split: str, documents: list[Document], ids_file: IO[bytes], starts_file: IO[bytes]) -> None:
        """Encodes documents and writes their ids, each document followed by SEP_ID."""
        report = self.reports[split]
        ids, lengths = self.codec.encode_flat([document.data for document in documents], self.dtype)
        starts = report.tokens + np.cumsum(lengths) - lengths
        append(ids_file, ids)
        append(starts_file, starts.astype("<i8"))
        self.lengths[split].add(lengths)
        report.documents += len(documents)
        report.characters += sum(len(document.text) for document in documents)
        report.tokens += len(ids)
        report.unknown += int(np.count_nonzero(ids == UNK_ID))
        if self.counts:
            self.frequencies += np.bincount(ids, minlength=len(self.frequencies))
            self.words += count_words(b" ".join([document.data for document in documents]))


def count_words(data: bytes) -> int:
    """Runs of bytes other than ASCII white space and controls."""
    inside = np.frombuffer(data, np.uint8) > 0x20
    return int(np.count_nonzero(inside[1:] > inside[:-1])) + int(inside[:1].sum())


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Lists of documents of about a megabyte: SentencePiece is fastest on lists."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
