"""Figures of a made-up data set with everything that data/statistics.json can hold."""

from typing import Any

HOSTILE = '<script>window.ran=1</script><img src=x onerror="window.ran=1"> & \0 "text"'


def example(line: int, reason: str, text: str) -> dict[str, Any]:
    """A document that was dropped."""
    return {"file": "crawl/part-0.jsonl.zst", "line": line, "reason": reason, "text": text}


def split(documents: int, tokens: int) -> dict[str, Any]:
    """Counts and lengths of a split."""
    shares = {"4-7": 0.01, "8-15": 0.04, "16-31": 0.1, "32-63": 0.2, "64-127": 0.3, "128-255": 0.2, "256-511": 0.1}
    return {
        "documents": documents,
        "characters": 4 * tokens,
        "tokens": tokens,
        "unknown_tokens": 0,
        "lengths": {
            "unit": "tokens of a document with its [SEP]",
            "mean": round(tokens / documents, 2),
            "least": 5,
            **{"p1": 9, "p5": 17, "p25": 49, "p50": 88, "p75": 170, "p95": 400, "p99": 900},
            "most": 8_123,
            "histogram": {label: int(share * documents) for label, share in shares.items()},
        },
    }


FULL: dict[str, Any] = {
    "files": 3,
    "file_bytes": 412_345_678,
    "tasks": 14,
    "documents": 120_600,
    "characters": 52_400_000,
    "text_bytes": 53_000_000,
    "tokens": 13_100_000,
    "kept": 120_600,
    "dropped": 30_150,
    "dropped_by_reason": {"gopher_quality": 17_000, "duplicate: near": 8_000, "decontaminate": 3, "broken JSON": 12}
    | {"duplicate: all paragraphs": 7},
    "inputs": [
        {"input": f"crawl/part-{number}.jsonl.zst", "files": 1, "bytes": 9, "documents": 40_200 - 900 * number}
        for number in range(20)
    ],
    "scripts": {"Latin": 0.91, "Han": 0.08, "Cyrillic": 0.01},
    "languages": {"en": 110_000, "zh": 10_000, "de": 600},
    "edits": {"repair": 1_234, "personal_data.email": 56},
    "filters": [
        {
            "name": "gopher_quality",
            "documents": 17_000,
            "characters": 9_000_000,
            "reasons": {"too few words": 12_000, "too many symbols": 5_000},
            "examples": [
                example(7, "too few words: 3", HOSTILE),
                example(1_024, "too many symbols: 0.4", "### " * 50),
                example(2_000, "too few words: 9", "هذا نص قصير\nفي سطرين"),
            ],
        },
        {"name": "fineweb", "corpus": "web", "documents": 1, "characters": 9, "reasons": {"x": 1}, "examples": []},
        {"name": "language", "documents": 0, "characters": 0, "reasons": {}, "examples": []},
        {"name": "ratios", "corpus": "web", "documents": 0, "characters": 0, "reasons": {}, "examples": []},
    ],
    "duplicates": {
        "exact": 1_500,
        "near": 8_000,
        "paragraphs": 40_000,
        "paragraph_characters": 3_100_000,
        "groups": 2_345,
        "largest_group": 77,
        "examples": [
            {
                "kind": "near",
                "dropped": {
                    "file": "crawl/part-1.jsonl.zst",
                    "line": 12,
                    "text": "The storm reached the coast at noon.",
                },
                "kept": {"file": "an older revision", "line": None, "text": "The storm reached the coast at noon!"},
            }
        ],
    },
    "contamination": {
        "documents": 3,
        "by_file": {"mrpc/test.jsonl.zst": {"dropped": 2, "cut": 0}, "cmrc/dev.json": {"dropped": 1, "cut": 4}},
        "examples": [example(99, "mrpc/test.jsonl.zst: shares thirteen words", "A text of the test set.")],
    },
    "corpora": [
        {"name": "web", "documents": 90_000, "tokens": 9_000_000, "weight": 1.0, "share": 0.75},
        {"name": "books", "documents": 30_000, "tokens": 4_100_000, "weight": 0.5},
    ],
    "tokenizer": {
        "vocab_size": 32_000,
        "words": 8_000_000,
        "pieces": 10_000_000,
        "fertility": 1.25,
        "unknown_tokens": 0,
        "byte_tokens": 1_234,
        "used_pieces": 31_990,
        "frequencies": [[300 + n, f"▁piece{n}" if n else "<b>", 400_000 // (n + 1)] for n in range(100)],
        "rank_frequency": [[1 << k, int(400_000 / (1 << k) ** 0.9)] for k in range(15)],
    },
    "splits": {"train": split(120_000, 13_000_000), "validation": split(600, 100_000)},
}
OLD = {
    name: FULL[name]
    for name in ("files", "file_bytes", "tasks", "documents", "characters", "text_bytes", "tokens", "kept", "dropped")
} | {"dropped_by_reason": {}, "inputs": FULL["inputs"][:1], "scripts": {}, "splits": FULL["splits"]}
"""As statistics.json was before filters."""
