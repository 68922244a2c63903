"""A byte for every code point, for the compiled loops: its kind, and what it is for words and lines.

They agree with Python's own str.isspace, re's \\s and \\w, and unicodedata. Price: 0.2 s and 1 MB in each process that
asks.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.cleaning.words import UNSPACED

LETTER, DIGIT, PUNCTUATION, SYMBOL, SPACE, OTHER = range(6)
"""Kinds of characters. Marks count as letters; other numbers than decimal digits, and controls, are OTHER."""
KIND = 0b111
"""Where the byte has the kind."""
IS_SPACE, IS_UNSPACED, IS_WORD, IS_LETTER, IS_TERMINAL = (1 << bit for bit in range(3, 8))
"""White space; a letter of a script without spaces; what \\w finds; what is in \\w, no decimal digit and no
underscore; what ends a sentence."""
TERMINAL = tuple(".!?…\"'”’»」』。！？．｡؟۔।॥።။។།")
"""What ends a sentence, or the quotation of one, in many scripts."""
_KINDS = {"L": LETTER, "M": LETTER, "P": PUNCTUATION, "S": SYMBOL, "Z": SPACE}
_POINTS = 0x110000
_ASSIGNED = 0x40000
"""From here on nothing is assigned but tags, variation selectors and private characters."""
PLAIN, ASK = 0x20000, 0xFFFFFFFF
"""From here on no letter has a case; what stands for a character that Python must be asked about."""

Classes = NDArray[np.uint8]


@cache
def classes() -> Classes:
    """(code points,): the byte of each. Planes 2 and 3 are Han, those beyond for private use."""
    table = np.full(_POINTS, OTHER, np.uint8)
    every = "".join(map(chr, range(_ASSIGNED)))
    kinds = {category: _kind(category) for category in set(map(unicodedata.category, every[:0x20000]))}
    table[:0x20000] = np.fromiter(map(kinds.__getitem__, map(unicodedata.category, every[:0x20000])), np.uint8, 0x20000)
    table[0x20000:_ASSIGNED] = LETTER
    table[[place for place, character in enumerate(every[:0x4000]) if character.isspace()]] = SPACE
    patterns = ((IS_SPACE, r"\s"), (IS_UNSPACED, f"[{UNSPACED}]"), (IS_WORD, r"\w"), (IS_LETTER, r"[^\W\d_]"))
    for bit, pattern in patterns:
        for run in re.finditer(f"{pattern}+", every):
            table[run.start() : run.end()] |= bit
    table[list(map(ord, TERMINAL))] |= IS_TERMINAL
    table.setflags(write=False)
    return table


def chosen(characters: Iterable[str]) -> Classes:
    """(code points,): 1 for the characters, 0 for all others."""
    table = np.zeros(_POINTS, np.uint8)
    table[list(map(ord, characters))] = 1
    table.setflags(write=False)
    return table


@cache
def folded() -> NDArray[np.uint32]:
    """(PLAIN,): the lower case of each code point below, ASK where that is two or depends on what is around."""
    lowered = [chr(point).lower() for point in range(PLAIN)]
    table = np.array([ord(lower) if len(lower) == 1 else ASK for lower in lowered], np.uint32)
    table[ord("Σ")] = ASK
    table.setflags(write=False)
    return table


def points_of(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """(characters,): their code points, in bytes where the text is ASCII; not to be written."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _kind(category: str) -> int:
    return DIGIT if category == "Nd" else _KINDS.get(category[0], OTHER)
