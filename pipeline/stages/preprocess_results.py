"""What the stage leaves beside the shards: statistics, the manifest that makes the data set valid, and its figures."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.config import SEP_ID, UNK_ID
from pipeline.base.files import is_remote, sha256_file
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import Tracker
from pipeline.corpus.documents import CONTAMINATION, EXAMPLES
from pipeline.shards.manifest import Manifest
from pipeline.stages.length_counts import LengthCounts
from pipeline.stages.preprocess_composition import inputs_of, scripts_of
from pipeline.stages.preprocess_totals import Totals
from pipeline.vocabulary.codec import Codec

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
FREQUENT = 100
Counts = np.ndarray[Any, np.dtype[np.int64]]
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def corpus_sha256(digests: Iterable[Path], before: str | None = None) -> str:
    """The corpus fingerprint: over the kept documents' digests in input order, wherever the files lie.

    before: that of the revision which is added to.
    """
    whole = hashlib.sha256(before.encode() if before else b"")
    for path in digests:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                whole.update(chunk)
    return whole.hexdigest()


def statistics(totals: Totals, codec: Codec, frequencies: Counts, shares: Sequence[Any]) -> dict[str, Any]:
    """The content of data/statistics.json. shares: what is said of the corpora of a mixture."""
    splits = {split: _split_statistics(found, totals.lengths[split]) for split, found in totals.splits.items()}
    sums, duplicates = totals.sums, totals.duplicates
    kept = sum(split["documents"] for split in splits.values())
    reasons = dropped_by_reason(totals)
    return {
        "files": sums["files"],
        "file_bytes": sums["file_bytes"],
        "tasks": sums["tasks"],
        "documents": kept,
        "characters": sum(split["characters"] for split in splits.values()),
        "text_bytes": sums["text_bytes"],
        "tokens": sum(split["tokens"] for split in splits.values()),
        "kept": kept,
        "dropped": sum(reasons.values()),
        "dropped_by_reason": reasons,
        "inputs": inputs_of(totals.inputs),
        "scripts": scripts_of(totals.count("scripts")),
        "languages": dict(totals.count("languages").most_common()),
        "edits": dict(sorted(totals.count("edits").items())),
        "filters": list(totals.filters.values()),
        "duplicates": duplicates,
        "contamination": _contamination(totals),
        "corpora": list(shares),
        "tokenizer": tokenizer_statistics(codec, frequencies, sums["words"]),
        "splits": splits,
    }


def dropped_by_reason(totals: Totals) -> dict[str, int]:
    """How many records were set aside or dropped for each kind of reason, most frequent first."""
    reasons = Counter(totals.count("reasons"))
    for found in totals.filters.values():
        if found["documents"]:
            reasons[found["name"]] += found["documents"]
    for kind in ("exact", "near"):
        if totals.duplicates.get(kind):
            reasons[f"duplicate: {kind}"] = totals.duplicates[kind]
    if totals.sums["emptied"]:
        reasons["duplicate: all paragraphs"] = totals.sums["emptied"]
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _contamination(totals: Totals) -> dict[str, Any]:
    by_file = {name: dict(counts) for name, counts in sorted(totals.contamination.items())}
    found = [one for one in totals.filters.values() if one["name"] == CONTAMINATION]
    examples = [example for one in found for example in one["examples"]][:EXAMPLES]
    dropped = sum(one["documents"] for one in found)
    return {"documents": dropped, "by_file": by_file, "examples": examples} if by_file else {}


def tokenizer_statistics(codec: Codec, frequencies: Counts, words: int) -> dict[str, Any]:
    """Of the tasks that were counted: fertility, unknown and byte tokens, frequent pieces.

    frequencies (vocab_size,): how often each piece occurs; words: separated by white space. The [SEP] after each
    document is no piece of its words and is left out.
    """
    pieces = codec.pieces()
    frequencies = frequencies.copy()
    frequencies[SEP_ID] = 0
    total = int(frequencies.sum())
    order = np.argsort(-frequencies, kind="stable")
    ranked = frequencies[order]
    used = int(np.count_nonzero(frequencies))
    bytes_of = [index for index, piece in enumerate(pieces) if _BYTE.fullmatch(piece)]
    return {
        "vocab_size": codec.vocab_size,
        "words": words,
        "pieces": total,
        "fertility": round(total / words, 4) if words else None,
        "unknown_tokens": int(frequencies[UNK_ID]),
        "byte_tokens": int(frequencies[bytes_of].sum()),
        "used_pieces": used,
        "frequencies": [[int(i), pieces[i], int(frequencies[i])] for i in order[: min(FREQUENT, used)].tolist()],
        "rank_frequency": [[1 << k, int(ranked[(1 << k) - 1])] for k in range(used.bit_length()) if 1 << k <= used],
    }


def _split_statistics(found: dict[str, Any], lengths: LengthCounts) -> dict[str, Any]:
    return {
        "documents": found["documents"],
        "characters": found["characters"],
        "tokens": found["tokens"],
        "unknown_tokens": found["unknown"],
        "lengths": length_statistics(lengths.by_length(), found["tokens"]),
    }


def length_statistics(lengths: Counter[int], tokens: int) -> dict[str, Any]:
    """Of documents by their number of tokens: mean, percentiles (nearest rank) and a histogram of powers of two.

    lengths: rounded down to ten binary digits from 1,024 on; tokens: their exact sum.
    """
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
        "mean": round(tokens / total, 2),
        "least": ordered[0][0],
        **percentiles,
        "most": ordered[-1][0],
        "histogram": {f"{low}-{2 * low - 1}": count for low, count in sorted(histogram.items())},
    }


def local_copy(path: Path, folder: Path) -> Path:
    """The file itself, or its copy in `folder` where it lies in a store."""
    if not is_remote(path):
        return path
    from pipeline.base.storage import download

    download(path, folder / path.name)
    return folder / path.name


def report_done(manifest: Manifest, folder: RunFolder, megabytes: float, tracker: Tracker, seconds: float) -> None:
    """Figures of the finished stage, to the log and to MLflow."""
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
            "data_revision": str(manifest.version),
        }
    )
    for path in (folder.manifest, folder.statistics, folder.report):
        tracker.artifact(local_copy(path, folder.path / "log"))
    get_logger().info(
        f"{folder.data}: {manifest.corpus.documents:,} documents, {manifest.corpus.quarantined:,} set aside, "
        f"{', '.join(f'{count:,} {name} tokens' for name, count in tokens.items())}; "
        f"{megabytes:,.1f} MB of files in {seconds:.1f} s"
    )
