"""Words as running text and back: which words each piece of a tokenizer begins, and what they are joined by.

A network meets running text when it is pretrained and when it is served, so it is fine-tuned on running text too: the
words are joined, the text is tokenised, and each piece is given to the words that begin in it, or to the word that it
goes on with. Price: where a piece spells several words (characters, in Chinese) one decision is made for them all; two
in a hundred pieces at most differ from the words' own tags.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.tasks.families.base import Row

_WIDE = {"W", "F"}


@dataclass(frozen=True)
class Window:
    """A row of a text's pieces."""

    row: Row
    begins: list[list[int]]
    """Of each piece the words that begin in it (their places); [] for special tokens, spaces and the rest of a word."""
    rests: list[int | None]
    """Of each piece of the rest of a word: that word, or the first of those that begin in one piece with it."""
    spaces: list[int | None]
    """Of each piece that is a space and nothing else: the word after it."""


def join(words: Sequence[str]) -> tuple[str, list[int]]:
    """Running text, and where each word begins in it. No space beside East Asian wide characters, one elsewhere.

    In a text that has such characters, single characters are not set apart either: their words are characters.
    """
    wide = any(_is_wide(character) for word in words for character in word)
    parts, begins, length = [], [], 0
    for before, word in zip(["", *words], words, strict=False):
        close = not before or not word or _is_wide(before[-1]) or _is_wide(word[0])
        close = close or (wide and len(before) == len(word) == 1)
        if not close:
            parts.append(" ")
            length += 1
        begins.append(length)
        parts.append(word)
        length += len(word)
    return "".join(parts), begins


def windows(tokenizer: Any, words: Sequence[str], max_length: int, stride: int) -> list[Window]:
    """The text's pieces in rows of at most max_length, which share `stride` pieces."""
    text, starts = join(words)
    encoding = tokenizer(
        text,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=True,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        verbose=False,
    )
    found = []
    for ids, offsets in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        found.append(Window({"input_ids": ids}, *_read(offsets, starts, words)))
    return found


def deciding(rows: Sequence[Window], words: int) -> list[tuple[int, int] | None]:
    """For each word the (row, piece) that decides on it: where the piece is farthest from its row's ends."""
    best: list[tuple[int, int] | None] = [None] * words
    margins = [-1] * words
    for number, window in enumerate(rows):
        for piece, begun in enumerate(window.begins):
            margin = min(piece, len(window.begins) - 1 - piece)
            for word in begun:
                if margin > margins[word]:
                    best[word], margins[word] = (number, piece), margin
    return best


def _read(
    offsets: Sequence[tuple[int, int]], starts: Sequence[int], words: Sequence[str]
) -> tuple[list[list[int]], list[int | None], list[int | None]]:
    """begins, rests and spaces of a row. A word of which the row has the rest only begins nowhere."""
    begins: list[list[int]] = []
    rests: list[int | None] = []
    spaces: list[int | None] = []
    first = next((start for start, end in offsets if end > start), 0)
    word = sum(start < first for start in starts)
    going = last = max((place for place in range(word) if words[place]), default=0)
    for start, end in offsets:
        begun: list[int] = []
        while end > start and word < len(starts) and starts[word] < end:
            if words[word]:
                begun.append(word)
            word += 1
        if begun:
            going, last = begun[0], begun[-1]
        other = end > start and not begun
        inside = start < starts[last] + len(words[last])
        begins.append(begun)
        rests.append(going if other and inside else None)
        spaces.append(word if other and not inside else None)
    return begins, rests, spaces


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in _WIDE
