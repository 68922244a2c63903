"""What each code point is to the search for copies: a part of a word, or of a script without spaces, or neither.

Price: 0.1 s a process for the tables; letters are those of Python's Unicode data, so another Python may take rare ones
otherwise.
"""

import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Kinds = np.ndarray[Any, np.dtype[np.uint8]]

SEPARATOR, WORD, MARK, CHARACTER, SYLLABLE_PART = range(5)
MAY_COMPOSE = 8
"""Added to the kind of a code point that may not stand so in Unicode's composed form (NFC)."""
_LETTERS = {"L": WORD, "N": WORD, "M": MARK}
"""By the first letter of a character's category."""
_KNOWN_POINTS = 0x32400
"""Code points from here on are tags, private or not assigned: separators."""
_CHARACTERS = (
    (0x2E80, 0x2FE0),  # radicals
    (0x3005, 0x3008),  # Han's iteration mark
    (0x3021, 0x3100),  # Hiragana, Katakana
    (0x31F0, 0x3200),
    (0x3400, 0x4DC0),  # Han
    (0x4E00, 0xA000),
    (0xF900, 0xFB00),
    (0xFF66, 0xFFA0),  # Katakana, halfwidth
    (0x1B000, 0x1B170),
    (0x20000, _KNOWN_POINTS),  # Han
)
_SYLLABLE_PARTS = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Burmese
    (0x1780, 0x1800),  # Khmer
    (0xA9E0, 0xAA00),
    (0xAA60, 0xAA80),
)
_HANGUL_PARTS = ((0x1161, 0x1176), (0x11A8, 0x11C3))
"""Vowels and last consonants, which join with what stands before."""
CHARACTERS_OF_ONE = 3
"""Characters that one of a script without spaces counts for: about as many say the same in English."""


class Table(NamedTuple):
    """Of each code point below its length; the others are separators."""

    kinds: Kinds
    hashes: Hashes
    """Capitals have their small letters' hash, separators 0."""


@cache
def table() -> Table:
    """Kinds and hashes of all code points."""
    points = list(map(chr, range(_KNOWN_POINTS)))
    kinds = np.array([_LETTERS.get(unicodedata.category(point)[0], SEPARATOR) for point in points], np.uint8)
    for ranges, kind in ((_CHARACTERS, CHARACTER), (_SYLLABLE_PARTS, SYLLABLE_PART)):
        for first, end in ranges:
            part = kinds[first:end]
            part[part == WORD] = kind
    lower = np.array([ord(point.lower()[0]) for point in points], np.uint64)
    hashes = np.where(kinds == SEPARATOR, np.uint64(0), mixed(lower + np.uint64(1)))
    may_compose = kinds == MARK
    may_compose |= [not unicodedata.is_normalized("NFC", point) for point in points]
    for first, end in _HANGUL_PARTS:
        may_compose[first:end] = True
    return Table(np.where(may_compose, kinds | np.uint8(MAY_COMPOSE), kinds), hashes)


@cache
def weights() -> Kinds:
    """What each code point below its length counts for in a paragraph's length; the others 1."""
    found = np.ones(_KNOWN_POINTS, np.uint8)
    for first, end in (*_CHARACTERS, *_SYLLABLE_PARTS):
        found[first:end] = CHARACTERS_OF_ONE
    return found


def mixed(values: Hashes) -> Hashes:
    """Every bit of a value spread over all of them: the end of splitmix64 (Steele et al. 2014, figure 15)."""
    mixed: Hashes = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
