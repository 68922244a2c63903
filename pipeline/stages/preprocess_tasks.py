"""What Ray workers do: survey a task, tokenise a task, write a shard. Functions from files to files, repeatable.

Each leaves its result complete or not at all and returns a small report; a finished one is not done again. A worker
holds one batch of documents (about a megabyte) and its model, besides at most corpus.max_record_bytes of one record.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import TypeAdapter

from model.config import SEP_ID, UNK_ID
from pipeline.base.corpus_sections import CorpusConfig
from pipeline.base.files import complete_folder, write_atomic
from pipeline.corpus.documents import SPLITS, Document, ReadReport, TaskDocuments, split_of
from pipeline.corpus.sample import Reservoir
from pipeline.corpus.tasks import Task
from pipeline.shards.block import Piece, PieceSlice, cut_blocks, shard_name, shard_range, take, token_dtype
from pipeline.shards.manifest import ShardEntry
from pipeline.shards.writer import write_shard
from pipeline.stages.preprocess_work import WorkFolder
from pipeline.vocabulary.codec import Codec
from pipeline.vocabulary.reading import load_codec

BATCH_CHARACTERS = 1 << 20
BATCH_DOCUMENTS = 4096


@dataclass
class SplitReport:
    """A task's part of one split. `lengths`: documents by their number of tokens, [SEP] included."""

    documents: int = 0
    characters: int = 0
    tokens: int = 0
    unknown: int = 0
    lengths: dict[int, int] = field(default_factory=dict)


@dataclass
class TokenReport:
    """What a task's reading found and its tokens, by split."""

    read: ReadReport
    splits: dict[str, SplitReport]


@dataclass(frozen=True)
class SampleOrder:
    """How much of a task goes into the tokenizer's sample."""

    seed: int
    quota: int
    sample_bytes: int


def survey_task(number: int, task: Task, config: CorpusConfig, order: SampleOrder, work: WorkFolder) -> ReadReport:
    """First reading: validates, sets bad records aside, and draws the task's part of the tokenizer's sample."""
    done = work.survey(number)
    if done.exists():
        return TypeAdapter(ReadReport).validate_json(done.read_bytes())
    documents = TaskDocuments(task, config, work.bad(number))
    sample = Reservoir(order.seed, order.quota, order.sample_bytes)
    for document in documents:
        sample.add(document.text)
    sample.save(work.sample(number))
    write_atomic(done, TypeAdapter(ReadReport).dump_json(documents.report))
    return documents.report


def tokenize_task(number: int, task: Task, config: CorpusConfig, sha256: str, work: WorkFolder) -> TokenReport:
    """Reading and encoding: the task's folder gets SPLIT.ids, SPLIT.starts, the documents' digests and report.json."""
    folder = work.segment(sha256, number)
    if folder.exists():
        return TypeAdapter(TokenReport).validate_json((folder / "report.json").read_bytes())
    codec = _codec(work.tokenizer(sha256))
    documents = TaskDocuments(task, config, work.bad(number))
    with complete_folder(folder) as aside:
        splits = _write_segment(aside, documents, codec, config.validation_fraction)
        report = TokenReport(documents.report, splits)
        (aside / "report.json").write_bytes(TypeAdapter(TokenReport).dump_json(report))
    return report


def shard_task(
    path: Path, shard: int, pieces: Sequence[Piece], sizes: tuple[int, int, int], sha256: str, work: WorkFolder
) -> ShardEntry:
    """Writes one shard into the split's folder `path`. sizes: tokens of the split, block_tokens, shard_blocks."""
    split = path.name
    dtype = token_dtype(_codec(work.tokenizer(sha256)).vocab_size)

    def read(piece: int, start: int, stop: int) -> PieceSlice:
        ids, starts = _segment(work.segment(sha256, piece), split, dtype.str)
        return take(ids, starts, start, stop)

    blocks = cut_blocks(split, pieces, read, sizes[1], shard_range(shard, *sizes), dtype)
    return write_shard(path / shard_name(shard), blocks)


@lru_cache(maxsize=2)
def _codec(path: Path) -> Codec:
    return load_codec(path)


@lru_cache(maxsize=2)
def _segment(folder: Path, split: str, dtype: str) -> tuple[Any, Any]:
    """ids (tokens,), mapped rather than read, and starts (documents,) int64 of a task's part of a split."""
    ids = np.memmap(folder / f"{split}.ids", dtype, mode="r")
    return ids, np.fromfile(folder / f"{split}.starts", "<i8")


class _SplitWriter:
    """Appends documents to SPLIT.ids and SPLIT.starts."""

    def __init__(self, folder: Path, split: str, codec: Codec) -> None:
        self.codec, self.dtype = codec, token_dtype(codec.vocab_size)
        self.ids: IO[bytes] = open(folder / f"{split}.ids", "wb")  # noqa: SIM115
        self.starts: IO[bytes] = open(folder / f"{split}.starts", "wb")  # noqa: SIM115
        self.report = SplitReport()
        self.lengths: Counter[int] = Counter()

    def add(self, texts: list[str]) -> None:
        """Encodes documents and writes their ids, each followed by SEP_ID."""
        flat: list[int] = []
        starts = []
        for ids in self.codec.encode(texts):
            starts.append(self.report.tokens + len(flat))
            flat += ids
            flat.append(SEP_ID)
            self.lengths[len(ids) + 1] += 1
        array = np.array(flat, self.dtype)
        array.tofile(self.ids)
        np.array(starts, "<i8").tofile(self.starts)
        self.report.documents += len(texts)
        self.report.characters += sum(map(len, texts))
        self.report.tokens += len(flat)
        self.report.unknown += int(np.count_nonzero(array == UNK_ID))

    def close(self) -> SplitReport:
        """Closes the files; the finished report."""
        self.ids.close()
        self.starts.close()
        self.report.lengths = dict(sorted(self.lengths.items()))
        return self.report


def _write_segment(
    folder: Path, documents: Iterable[Document], codec: Codec, validation_fraction: float
) -> dict[str, SplitReport]:
    writers = {split: _SplitWriter(folder, split, codec) for split in SPLITS}
    with open(folder / "digests", "wb") as digests:
        for batch in _batches(documents):
            texts: dict[str, list[str]] = {split: [] for split in SPLITS}
            for document in batch:
                texts[split_of(document.digest, validation_fraction)].append(document.text)
                digests.write(document.digest)
            for split, writer in writers.items():
                if texts[split]:
                    writer.add(texts[split])
    return {split: writer.close() for split, writer in writers.items()}


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
