"""Words as running text and back: which words each piece of a tokenizer begins, and what they are joined by.

A network meets running text when it is pretrained and when it is served, so it is fine-tuned on running text too: the
words are joined, the text is tokenised, and each piece is given to the words that begin in it. Price: where a piece
spells several words (characters, in Chinese) one decision is made for them all; two in a hundred pieces at most
differ from the words' own tags.
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
    """Of each piece the words that begin in it (their places); [] for special tokens and the rest of a word."""


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
        found.append(Window({"input_ids": ids}, _begins(offsets, starts, words)))
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


def _begins(offsets: Sequence[tuple[int, int]], starts: Sequence[int], words: Sequence[str]) -> list[list[int]]:
    """Words to the first piece that covers some of them; a word of which a row has the rest only begins nowhere."""
    begins: list[list[int]] = []
    word = 0
    if offsets:
        first = next((start for start, end in offsets if end > start), 0)
        while word < len(starts) and starts[word] < first:
            word += 1
    for start, end in offsets:
        begun: list[int] = []
        while end > start and word < len(starts) and starts[word] < end:
            if words[word]:
                begun.append(word)
            word += 1
        begins.append(begun)
    return begins


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in _WIDE
