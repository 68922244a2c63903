"""What `ls` and `stat` print for people: aligned columns, numbers to the right."""

from collections.abc import Sequence
from typing import Any

DIGEST = 16
"""Digits of a digest that are shown; --json has them all."""


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Lines of columns; right: the columns that are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def listing_table(found: dict[str, Any]) -> str:
    """The table of `ls`."""
    lines = [found["data"]]
    if "tokenizer" in found:
        lines[0] += (
            f": version {found['version']}, blocks of {found['block_tokens']:,} tokens ({found['dtype']}), "
            f"{found['tokenizer']['vocab_size']:,} pieces"
        )
    names = ("blocks", "tokens", "documents", "bytes")
    rows = [["", *names, "sha256"]]
    for split, about in found["splits"].items():
        shards = about["shards"]
        rows.append([split, *(f"{about[name]:,}" for name in names), f"{len(shards):,} shards"])
        rows += [
            [f"  {shard['name']}", *(f"{shard[name]:,}" for name in names), shard["sha256"][:DIGEST]]
            for shard in shards
        ]
    return "\n".join([*lines, *aligned(rows, range(1, 5))])


def statistics_table(found: dict[str, Any]) -> str:
    """The tables of `stat`."""
    parts = []
    for split, about in found.items():
        lengths = about["lengths"]
        rows = [
            [name.replace("_", " "), f"{about[name]:,}"]
            for name in ("blocks", "documents", "tokens", "padding", "unknown", "different_pieces")
        ]
        rows[3].append(f"{about['padding_fraction']:.4%} of all places")
        rows[4].append(f"{about['unknown_fraction']:.4%} of the tokens")
        rows = [[*row, ""][:3] for row in rows]
        told = ", ".join(f"{name} {value:,}" for name, value in lengths.items() if name != "documents")
        pieces = [
            [_shown(piece), f"{piece['count']:,}", f"{piece['count'] / about['tokens']:.2%}"]
            for piece in about["frequent"]
        ]
        read = "" if about["shards"] == about["of_shards"] else f", of {about['of_shards']:,}"
        parts.append(
            "\n".join(
                [
                    f"{split}: {about['shards']:,} shards read{read}",
                    *(f"  {line}" for line in aligned(rows, (1,))),
                    f"  tokens a document ({lengths['documents']:,} whole ones, [SEP] included): {told}",
                    "  most frequent pieces:",
                    *(f"    {line}" for line in (aligned(pieces, (1, 2)) if pieces else [])),
                ]
            )
        )
    return "\n".join(parts)


def _shown(piece: dict[str, Any]) -> str:
    return str(piece["id"]) if piece["piece"] is None else f"{piece['id']} {piece['piece']}"
