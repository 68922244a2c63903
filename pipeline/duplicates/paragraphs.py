"""What a paragraph is, and a text without some of them.

The pieces between blank lines where a text has any, else its lines. They are compared without the white space around
them. Price: a text whose paragraphs are single lines but that has one blank line somewhere is cut at that one only.
"""

import re
from collections.abc import Iterable

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_LINE_END = re.compile(r"\n")


def split_paragraphs(text: str) -> list[tuple[str, str]]:
    """(piece, the separator after it) in order; together they are the text. A paragraph's number is its place here."""
    ends = _BLANK_LINES if _BLANK_LINES.search(text) else _LINE_END
    pieces, start = [], 0
    for end in ends.finditer(text):
        pieces.append((text[start : end.start()], end.group()))
        start = end.end()
    pieces.append((text[start:], ""))
    return pieces


def apply_paragraphs(text: str, numbers: Iterable[int]) -> str:
    """The text without the paragraphs of these numbers, each with the separator after it; "" when nothing is left."""
    cut = {int(number) for number in numbers}
    if not cut:
        return text
    pieces = split_paragraphs(text)
    kept = [pair for number, pair in enumerate(pieces) if number not in cut]
    if kept and len(pieces) - 1 in cut:
        kept[-1] = (kept[-1][0], "")
    left = "".join(piece + separator for piece, separator in kept)
    return left if left.strip() else ""
