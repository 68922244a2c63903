"""Tokens laid over their text: every character once and in its order, what lies between tokens, and cells to point at.

A cell is what of the text a token stands for. Tokens that stand for nothing more (the later bytes of one character)
share the cell before them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

CHUNK = 400
"""Cells of a chunk, a block that the browser lays out only when it comes into sight …"""
LONGEST_CHUNK = 600
"""… which ends at a blank, or at the latest here."""


@dataclass
class Cell:
    """A stretch of the text and the tokens that stand for it."""

    text: str
    before: str
    """What of the text lies between the last cell and this one."""
    tokens: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Chunk:
    """Neighbouring cells, the number of the first, and what of the text follows the last."""

    first: int
    cells: list[Cell]
    after: str


def lay_out(text: str, tokens: Sequence[dict[str, Any]]) -> list[Chunk]:
    """The whole text as cells, in chunks. tokens: objects with start and end, in their order."""
    cells: list[Cell] = []
    waiting: list[dict[str, Any]] = []
    place = 0
    for token in tokens:
        start, end = max(place, token["start"]), token["end"]
        if end > start:
            cells.append(Cell(text[start:end], text[place:start], [*waiting, token]))
            waiting, place = [], end
        elif cells:
            cells[-1].tokens.append(token)
        else:
            waiting.append(token)
    if waiting:
        cells.append(Cell("", "", waiting))
    return _chunks(cells, text[place:])


def _chunks(cells: list[Cell], rest: str) -> list[Chunk]:
    starts = [0]
    for index, cell in enumerate(cells):
        size = index - starts[-1]
        if size >= LONGEST_CHUNK or (size >= CHUNK and cell.before.strip() != cell.before):
            starts.append(index)
    chunks = []
    for start, end in zip(starts, [*starts[1:], len(cells)], strict=True):
        after = cells[end].before if end < len(cells) else rest
        chunks.append(Chunk(start, cells[start:end], after))
        if end < len(cells):
            cells[end].before = ""
    return chunks
