"""Text as a row of 64-bit hashes, one a unit: a word, or a character of a script that is written without spaces.

Two texts have equal rows when they differ only in case, accents, punctuation, white space and invisible characters. A
word is a run of letters, marks and digits; everything else separates, so "don't", "don ' t" and "DON’T" are the same
two words. Compared by compatibility forms (full-width letters are letters), character by character, so "ß" is not "ss".
Price: about 9 ns a character in numpy, in blocks that stay in the cache; a word of over BLOCK characters is cut.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

BLOCK = 1 << 16
"""Characters that are hashed at once."""
SEPARATOR, WORD, SINGLE, IGNORED = range(4)
"""What a character is: SINGLE is a unit by itself, IGNORED is passed over, also inside a word."""
KIND = np.uint64(3)
LAST = 0x323B0
"""From here on Unicode (16) has no letter: what follows is read as this."""
WITHOUT_SPACES = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x2E80, 0x2FE0),  # radicals of Han
    (0x3005, 0x3008),  # iteration marks of Han
    (0x3040, 0x3130),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x3200),  # the rest of Bopomofo and Katakana
    (0x3400, 0x4DC0),  # Han, extension A
    (0x4E00, 0xA4D0),  # Han, Yi
    (0xA9E0, 0xAA00),  # Myanmar
    (0xAA60, 0xAA80),  # Myanmar
    (0xF900, 0xFB00),  # Han, compatibility
    (0x1B000, 0x1B170),  # Kana
    (0x20000, LAST),  # Han, further extensions
)
_HAN_AND_HANGUL = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0x20000, 0x2A6E0))
"""Letters throughout, of which none has another form: their names need not be looked up."""
_ACCENTS = range(0x0300, 0x0370)
_SELECTORS = range(0xFE00, 0xFE10)
_LETTER_BASE = 0x9E3779B97F4A7C15
_UNIT_BASE = 0xD1B54A32D192ED03
"""Odd, so that they have an inverse modulo 2**64."""
_MODULUS = 1 << 64


class Units(NamedTuple):
    """Units of a text in order: hash, and the characters [start, end) of the text that each one is."""

    hashes: Hashes
    starts: Places
    ends: Places
    single: NDArray[np.bool_]
    """Whether the unit is one character of a script without spaces."""


def mix(values: Hashes) -> Hashes:
    """A permutation of the 64-bit numbers that spreads every bit (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def units_of(text: str) -> Units:
    """The text's units. A lone surrogate separates."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    parts = [_units(codes[start:stop], start) for start, stop in _blocks(codes)]
    if len(parts) == 1:
        return parts[0]
    return Units(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def row_hashes(hashes: Hashes, length: int) -> Hashes:
    """Of every `length` units in a row, by their first: the polynomial of their hashes, modulo 2**64.

    Rows of twice the length are put together from two, so it takes about 2 log2(length) passes. Empty where there are
    fewer units.
    """
    if len(hashes) < length:
        return hashes[:0]
    powers = _unit_powers(length + 1)
    whole, part, done, width = None, hashes, 0, 1
    while True:
        if length & width:
            whole = part if whole is None else whole[: len(part) - done] + powers[done] * part[done:]
            done += width
        if done == length:
            assert whole is not None
            return whole
        part = part[:-width] + powers[width] * part[width:]
        width *= 2


def prefix_hashes(hashes: Hashes, starts: Places, lengths: Sequence[int]) -> Hashes:
    """The same of the rows that begin at `starts` alone, for several lengths: (starts, lengths).

    A row that would end behind the last unit has a meaningless hash.
    """
    powers = _unit_powers(max(lengths))
    rows = np.minimum(starts[:, None] + np.arange(len(powers)), len(hashes) - 1)
    sums: Hashes = np.cumsum(hashes[rows] * powers, axis=1)
    return sums[:, np.asarray(lengths) - 1]


def _blocks(codes: NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
    """Ranges of about BLOCK characters that end behind a character that is in no word."""
    values, start = _character_values(), 0
    while len(codes) - start > BLOCK:
        stop = start + BLOCK
        for reach in (256, BLOCK):
            tail = values.take(codes[stop - reach : stop], mode="clip") & KIND
            outside = np.flatnonzero((tail == SEPARATOR) | (tail == SINGLE))
            if len(outside):
                stop += int(outside[-1]) + 1 - reach
                break
        yield start, stop
        start = stop
    yield start, len(codes)


def _units(codes: NDArray[np.uint32], offset: int) -> Units:
    values = _character_values().take(codes, mode="clip")
    kinds = (values & KIND).astype(np.uint8)
    places: Places | None = None
    if kinds.max(initial=SEPARATOR) == IGNORED:
        places = np.flatnonzero(kinds != IGNORED)
        values, kinds = values[places], kinds[places]
    single, word = kinds == SINGLE, np.zeros(len(kinds) + 2, dtype=np.bool_)
    word[1:-1] = kinds == WORD
    first = (single | (word[1:-1] & ~word[:-2])).nonzero()[0]
    last = (single | (word[1:-1] & ~word[2:])).nonzero()[0]
    powers, inverses = _letter_powers()
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    hashes = mix((sums.take(last + 1) - sums.take(first)) * inverses.take(first))
    starts, ends = (first, last) if places is None else (places[first], places[last])
    return Units(hashes, starts + offset, ends + (offset + 1), single[first])


@lru_cache(maxsize=64)
def _unit_powers(length: int) -> Hashes:
    return np.array([pow(_UNIT_BASE, place, _MODULUS) for place in range(length)], dtype=np.uint64)


@lru_cache(maxsize=1)
def _letter_powers() -> tuple[Hashes, Hashes]:
    """Powers of the base for the characters of a block, and their inverses."""
    tables = []
    for base in (_LETTER_BASE, pow(_LETTER_BASE, -1, _MODULUS)):
        table = np.full(BLOCK, base, dtype=np.uint64)
        table[0] = 1
        tables.append(np.cumprod(table, dtype=np.uint64))
    return tables[0], tables[1]


@lru_cache(maxsize=1)
def _character_values() -> Hashes:
    """By code point up to LAST: a random number whose two lowest bits are the kind, the same for all forms."""
    forms = np.arange(LAST + 1, dtype=np.uint64)
    kinds = np.zeros(LAST + 1, dtype=np.uint64)
    known = np.zeros(LAST + 1, dtype=np.bool_)
    for low, high in _HAN_AND_HANGUL:
        known[low:high] = True
        kinds[low:high] = WORD if low == 0xAC00 else SINGLE
    for code in np.flatnonzero(~known)[:-1].tolist():
        character = chr(code)
        kinds[code] = _kind(character)
        if kinds[code] in (WORD, SINGLE):
            form = ord(_plain(character))
            forms[code], kinds[code] = form, _kind(chr(form))
    values = (mix(forms + np.uint64(1)) & ~KIND) | kinds
    values[kinds == SEPARATOR] = SEPARATOR
    return values


def _kind(character: str) -> int:
    code, category = ord(character), unicodedata.category(character)
    if category == "Cf" or code in _ACCENTS or code in _SELECTORS:
        return IGNORED
    if category[0] not in "LMN":
        return SEPARATOR
    return SINGLE if any(low <= code < high for low, high in WITHOUT_SPACES) else WORD


def _plain(character: str) -> str:
    """Compatibility form without accents in lower case, where that is one character."""
    form = _one(unicodedata.normalize("NFKC", character), character)
    bare = "".join(part for part in unicodedata.normalize("NFD", form) if ord(part) not in _ACCENTS)
    form = _one(unicodedata.normalize("NFC", bare), form)
    return _one(form.casefold(), _one(form.lower(), form))


def _one(changed: str, before: str) -> str:
    return changed if len(changed) == 1 else before
