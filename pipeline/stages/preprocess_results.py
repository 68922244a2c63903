"""What the stage leaves beside the shards: statistics, the manifest that makes the data set valid, and its figures."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig
from pipeline.base.files import sha256_file
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import Tracker
from pipeline.corpus.documents import SPLITS, ReadReport
from pipeline.corpus.files import InputFile
from pipeline.corpus.tasks import Task
from pipeline.shards.block import token_dtype
from pipeline.shards.manifest import CorpusEntry, Manifest, SplitEntry, TokenizerEntry
from pipeline.stages.preprocess_composition import inputs_of, scripts_of
from pipeline.stages.preprocess_tasks import SplitReport, TokenReport
from pipeline.vocabulary.codec import Codec

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def corpus_sha256(digests: Iterable[Path]) -> str:
    """The corpus fingerprint: over the kept documents' digests in input order, wherever the files lie."""
    whole = hashlib.sha256()
    for path in digests:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                whole.update(chunk)
    return whole.hexdigest()


def statistics(files: Sequence[InputFile], tasks: Sequence[Task], reports: Sequence[TokenReport]) -> dict[str, Any]:
    """The content of data/statistics.json."""
    reads = [report.read for report in reports]
    splits = {split: _split_statistics([report.splits[split] for report in reports]) for split in SPLITS}
    return {
        "files": len(files),
        "file_bytes": sum(file.size for file in files),
        "tasks": len(tasks),
        "documents": sum(read.kept for read in reads),
        "characters": sum(read.characters for read in reads),
        "text_bytes": sum(read.text_bytes for read in reads),
        "tokens": sum(split["tokens"] for split in splits.values()),
        "kept": sum(read.kept for read in reads),
        "dropped": sum(read.bad for read in reads),
        "dropped_by_reason": dropped_by_reason(reads),
        "inputs": inputs_of(files, tasks, reads),
        "scripts": scripts_of(reads),
        "splits": splits,
    }


def dropped_by_reason(reads: Iterable[ReadReport]) -> dict[str, int]:
    """How many records were set aside for each kind of reason, most frequent first."""
    reasons: Counter[str] = Counter()
    for read in reads:
        reasons.update(read.reasons)
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _split_statistics(reports: Sequence[SplitReport]) -> dict[str, Any]:
    lengths: Counter[int] = Counter()
    for report in reports:
        lengths.update(report.lengths)
    return {
        "documents": sum(report.documents for report in reports),
        "characters": sum(report.characters for report in reports),
        "tokens": sum(report.tokens for report in reports),
        "unknown_tokens": sum(report.unknown for report in reports),
        "lengths": length_statistics(lengths),
    }


def length_statistics(lengths: Counter[int]) -> dict[str, Any]:
    """Of documents by their number of tokens: mean, percentiles (nearest rank) and a histogram of powers of two."""
    total = lengths.total()
    if not total:
        return {"unit": "tokens of a document with its [SEP]", "histogram": {}}
    ordered = sorted(lengths.items())
    percentiles = {}
    for percent in PERCENTILES:
        rank, seen = -(-percent * total // 100), 0
        for length, count in ordered:
            seen += count
            if seen >= rank:
                percentiles[f"p{percent}"] = length
                break
    histogram: Counter[int] = Counter()
    for length, count in ordered:
        histogram[1 << (length.bit_length() - 1)] += count
    return {
        "unit": "tokens of a document with its [SEP]",
        "mean": round(sum(length * count for length, count in ordered) / total, 2),
        "least": ordered[0][0],
        **percentiles,
        "most": ordered[-1][0],
        "histogram": {f"{low}-{2 * low - 1}": count for low, count in sorted(histogram.items())},
    }


def manifest_of(
    config: RunConfig, codec: Codec, sha256: str, reports: Sequence[TokenReport], splits: dict[str, SplitEntry]
) -> Manifest:
    """The manifest: shards, digests, counts and the config."""
    return Manifest(
        block_tokens=config.data.block_tokens,
        dtype=token_dtype(codec.vocab_size).name,
        tokenizer=TokenizerEntry(sha256=codec.sha256, vocab_size=codec.vocab_size),
        corpus=CorpusEntry(
            sha256=sha256,
            documents=sum(report.read.kept for report in reports),
            quarantined=sum(report.read.bad for report in reports),
        ),
        splits=splits,
        config=config.to_dict(),
    )


def report_done(
    manifest: Manifest, folder: RunFolder, files: Sequence[InputFile], tracker: Tracker, seconds: float
) -> None:
    """Figures of the finished stage, to the log and to MLflow."""
    megabytes = sum(file.size for file in files) / 1e6
    tokens = {name: split.tokens for name, split in manifest.splits.items()}
    figures = {
        "preprocess/documents": manifest.corpus.documents,
        "preprocess/quarantined": manifest.corpus.quarantined,
        **{f"preprocess/tokens/{name}": count for name, count in tokens.items()},
        "preprocess/seconds": seconds,
        "preprocess/megabytes_per_second": megabytes / seconds,
    }
    tracker.metrics(0, figures)
    tracker.tags(
        {
            "corpus_sha256": manifest.corpus.sha256,
            "tokenizer_sha256": manifest.tokenizer.sha256,
            "data_manifest_sha256": sha256_file(folder.manifest),
        }
    )
    tracker.artifact(folder.manifest)
    tracker.artifact(folder.statistics)
    get_logger().info(
        f"{folder.data}: {manifest.corpus.documents:,} documents, {manifest.corpus.quarantined:,} set aside, "
        f"{', '.join(f'{count:,} {name} tokens' for name, count in tokens.items())}; "
        f"{megabytes:,.1f} MB of files in {seconds:.1f} s"
    )
