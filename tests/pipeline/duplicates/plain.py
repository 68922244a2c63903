"""Shingles and long paragraphs in NumPy and regular expressions: slow, and what the compiled loops are held to."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.duplicates import shingles
from pipeline.duplicates.characters import CHARACTER, MARK, SEPARATOR, SYLLABLE_PART, WORD, mixed, table, weights
from pipeline.duplicates.paragraphs import split_paragraphs

WINDOW = 1 << 16
"""Characters that are looked at together; a longer word is cut."""
LONGEST = 64


def cut(texts: Sequence[str], words: int, characters: int) -> list[list[int]]:
    """The hashes of each text's shingles."""
    sizes = {WORD: words, MARK: words, CHARACTER: characters, SYLLABLE_PART: 2 * characters}
    found = []
    for text in texts:
        tokens, kinds = _tokens(text)
        hashes, chosen = np.zeros(len(tokens), np.uint64), np.zeros(len(tokens), bool)
        for kind, size in sizes.items():
            here = (kinds == kind) & (len(tokens) - np.arange(len(tokens)) >= size)
            if here.any():
                hashes[here] = _polynomials(tokens, size)[here]
                chosen |= here
        if len(tokens) and not chosen.any():
            hashes[0], chosen[0] = _polynomials(tokens, len(tokens))[0], True
        found.append(mixed(hashes[chosen]).tolist())
    return found


def _polynomials(tokens: Any, size: int) -> Any:
    total = np.zeros(len(tokens), np.uint64)
    for place in range(size):
        total[: len(tokens) - place] += tokens[place:] * _power(shingles._SHINGLE_STEP, place)
    return total


def _tokens(text: str) -> tuple[Any, Any]:
    hashes, kinds = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint8)]
    for hashed, kind in _windows(text + "\n"):
        hashes.append(hashed)
        kinds.append(kind)
    return np.concatenate(hashes), np.concatenate(kinds)


def _windows(text: str) -> Iterator[tuple[Any, Any]]:
    """Hashes and kinds of the tokens of parts of the text, cut between tokens."""
    powers = np.array([_power(shingles._WORD_STEP, place) for place in range(LONGEST)], np.uint64)
    start = 0
    while start < len(text):
        points = np.frombuffer(text[start : start + WINDOW].encode("utf-32-le", "surrogatepass"), np.uint32)
        points = np.where(points < len(table().kinds), points, 0)
        kinds = table().kinds[points] & 7
        first = _token_starts(kinds)
        end = len(points)
        if start + end < len(text) and len(first) and first[-1] > 0:
            end, first = int(first[-1]), first[:-1]  # the last one may go on
        if len(first):
            places = np.arange(end)
            places[first[0] :] -= np.repeat(first, np.diff(first, append=end))
            values = table().hashes[points[:end]] * powers[places % LONGEST]
            yield mixed(np.add.reduceat(values, first)), kinds[first]
        start += end


def _token_starts(kinds: Any) -> Any:
    """A token begins at a letter after none, and at each character that stands alone or follows such a one."""
    inside, marks = kinds != SEPARATOR, kinds == MARK
    begins, before = inside.copy(), kinds[:-1]
    if marks.any():  # a mark belongs to what it follows
        owners = np.maximum.accumulate(np.where(marks, 0, np.arange(len(kinds))))
        before = kinds[owners[:-1]]
    begins[1:] &= ~inside[:-1] | (kinds[1:] > MARK) | ((before > MARK) & ~marks[1:])
    return np.flatnonzero(begins)


def _power(base: int, exponent: int) -> np.uint64:
    return np.uint64(pow(base, exponent, 1 << 64))


def weighed_length(text: str) -> int:
    """Characters, each of a script without spaces as three."""
    return sum(int(weights()[ord(one)]) if ord(one) < len(weights()) else 1 for one in text)


def long_paragraphs(text: str, least: int) -> Iterator[tuple[int, str]]:
    """(number, the paragraph without white space around it) of those of at least so many characters, as they count."""
    for number, (piece, _) in enumerate(split_paragraphs(text)):
        stripped = re.sub(r"^\s+|\s+\Z", "", piece)
        if weighed_length(stripped) >= least:
            yield number, stripped
