"""The report's parts: from data/statistics.json to what the page shows. A part whose figures are absent is None.

Figures of data sets that were made by earlier versions lack whole parts, so every field is asked for.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.reporting.chart import rank_frequency
from pipeline.reporting.numbers import Bar, bars, count, decimal, largest_first, percent, size

Json = Mapping[str, Any]
Figures = list[tuple[str, str]]
"""Names and values."""
Part = dict[str, Any]

_DUPLICATES = {
    "exact": "equal documents dropped",
    "near": "near-equal documents dropped",
    "paragraphs": "repeated paragraphs cut out",
    "paragraph_characters": "characters cut out",
    "groups": "groups of equal or near-equal documents",
    "largest_group": "documents in the largest group",
}
_LENGTHS = ("mean", "least", "p1", "p5", "p25", "p50", "p75", "p95", "p99", "most")
_NAMES = {"p50": "median"}


def summary(statistics: Json) -> Part:
    """The figures at the top."""
    documents, characters, tokens = (statistics.get(name, 0) for name in ("documents", "characters", "tokens"))
    figures = [("documents", count(documents)), ("characters", count(characters)), ("tokens", count(tokens))]
    if documents:
        figures.append(("tokens a document", decimal(tokens / documents, 1)))
    if tokens:
        figures.append(("characters a token", decimal(characters / tokens)))
    return {
        "figures": figures,
        "files": statistics.get("files", 0),
        "bytes": size(statistics.get("file_bytes", 0)),
        "left_out": statistics.get("dropped", 0),
        "left_out_share": percent(statistics.get("dropped", 0), _read(statistics)),
    }


def composition(statistics: Json) -> Part | None:
    """Splits, corpora, inputs, languages and scripts."""
    splits = [
        (name, count(split["documents"]), count(split.get("characters", 0)), count(split["tokens"]))
        for name, split in statistics.get("splits", {}).items()
        if split.get("documents")
    ]
    inputs = {one["input"]: one.get("documents", 0) for one in statistics.get("inputs", [])}
    languages = statistics.get("languages", {})
    part: Part = {
        "splits": splits,
        "corpora": _corpora(statistics.get("corpora", [])),
        "inputs": bars(largest_first(inputs), sum(inputs.values())),
        "languages": bars(largest_first(languages), sum(languages.values())),
        "scripts": [
            Bar(name, percent(share, 1), round(100 * share, 2), "")
            for name, share in largest_first(statistics.get("scripts", {}))
        ],
    }
    return part if any(part.values()) else None


def lengths(statistics: Json) -> Part | None:
    """Histogram and percentiles of each split."""
    found = []
    for name, split in statistics.get("splits", {}).items():
        told = split.get("lengths", {})
        if told.get("histogram"):
            figures = [(_NAMES.get(key, key), _figure(told[key])) for key in _LENGTHS if key in told]
            ranges = [(label.replace("-", "–"), number) for label, number in told["histogram"].items()]
            found.append((name, figures, bars(ranges, split["documents"])))
    return {"splits": found} if found else None


def left_out(statistics: Json) -> Part | None:
    """Records by reason, and each filter with its examples."""
    read = _read(statistics)
    reasons = bars(largest_first(statistics.get("dropped_by_reason", {})), read)
    filters = [
        {
            "name": _filter_name(one),
            "documents": count(one["documents"]),
            "share": percent(one["documents"], read),
            "characters": count(one.get("characters", 0)),
            "reasons": bars(largest_first(one.get("reasons", {})), one["documents"]),
            "examples": one.get("examples", []),
        }
        for one in statistics.get("filters", [])
        if one["documents"]
    ]
    idle = [_filter_name(one) for one in statistics.get("filters", []) if not one["documents"]]
    return {"reasons": reasons, "filters": filters, "idle": idle} if reasons or filters or idle else None


def _filter_name(found: Json) -> str:
    """The filter, of a mixture with its corpus."""
    return f"{found['corpus']}: {found['name']}" if found.get("corpus") else str(found["name"])


def edits(statistics: Json) -> Part | None:
    """What was changed in documents that stay."""
    changed = bars(largest_first(statistics.get("edits", {})))
    return {"edits": changed} if changed else None


def duplicates(statistics: Json) -> Part | None:
    """Repeated documents and paragraphs, with pairs."""
    found = statistics.get("duplicates", {})
    figures = [(told, count(found[name])) for name, told in _DUPLICATES.items() if name in found]
    emptied = statistics.get("dropped_by_reason", {}).get("duplicate: all paragraphs")
    if figures and emptied:
        figures.append(("documents of nothing but repeated paragraphs dropped", count(emptied)))
    return {"figures": figures, "pairs": found.get("examples", [])} if figures else None


def contamination(statistics: Json) -> Part | None:
    """Documents with evaluation texts, by evaluation file."""
    found = statistics.get("contamination", {})
    if not found:
        return None
    by_file = sorted(found.get("by_file", {}).items(), key=lambda item: (-sum(item[1].values()), item[0]))
    rows = [(name, count(counts.get("dropped", 0)), count(counts.get("cut", 0))) for name, counts in by_file]
    return {
        "documents": found.get("documents", 0),
        "cut": any(counts.get("cut") for _, counts in by_file),
        "rows": rows,
        "examples": found.get("examples", []),
    }


def tokenizer(statistics: Json) -> Part | None:
    """Vocabulary: how much of it is used, how often, and how many pieces a word takes."""
    found = statistics.get("tokenizer", {})
    if not found:
        return None
    pieces, pairs = found.get("pieces", 0), found.get("rank_frequency", [])
    frequent = [(piece, number) for _, piece, number in found.get("frequencies", [])]
    return {
        "figures": _tokenizer_figures(found, pieces),
        "pieces": count(pieces),
        "frequent": bars(frequent, pieces),
        "chart": rank_frequency(pairs),
        "pairs": [(count(rank), count(number)) for rank, number in pairs],
    }


def _tokenizer_figures(found: Json, pieces: int) -> Figures:
    figures: Figures = []
    size_ = found.get("vocab_size")
    if size_ is not None:
        figures.append(("pieces in the vocabulary", count(size_)))
        if "used_pieces" in found:
            used = found["used_pieces"]
            figures.append(("of them used", f"{count(used)} ({percent(used, size_)})"))
    if found.get("fertility") is not None:
        figures.append(("pieces a word (fertility)", decimal(found["fertility"])))
    for name, told in (("unknown_tokens", "unknown pieces"), ("byte_tokens", "pieces that are single bytes")):
        if name in found:
            figures.append((told, f"{count(found[name])} ({percent(found[name], pieces)})"))
    return figures


def _corpora(corpora: list[Json]) -> list[tuple[str, str, str, str, str]]:
    """Name, documents, tokens, weight and share of the training sequences."""
    return [
        (
            one["name"],
            count(one.get("documents", 0)),
            count(one.get("tokens", 0)),
            f"{one['weight']:g}" if one.get("weight") is not None else "–",
            percent(one["share"], 1) if one.get("share") is not None else "–",
        )
        for one in corpora
    ]


def _read(statistics: Json) -> int:
    """Records that were read."""
    return int(statistics.get("documents", 0)) + int(statistics.get("dropped", 0))


def _figure(value: float) -> str:
    return count(value) if isinstance(value, int) else decimal(value)
