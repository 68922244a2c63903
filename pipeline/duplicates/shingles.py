"""Shingles: hashes of the runs of words, or of characters where a script puts no spaces, that two copies share.

A token is a word (a run of letters, marks and digits, in lower case) or, of Han, kana, Thai and their like, a character
with its marks. Punctuation, symbols and white space only separate. From each token on there is one shingle, as long as
its script asks for. Many documents go through NumPy at once, so short ones cost little too. Price: which characters
are letters is Python's Unicode data, so another Python may hash rare letters differently.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]
Kinds = np.ndarray[Any, np.dtype[np.uint8]]

SEPARATOR, WORD, MARK, CHARACTER, SYLLABLE_PART = range(5)
WINDOW = 1 << 16
"""Characters that are looked at together: their arrays stay in the processor's cache."""
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
_WITHOUT_SPACES = re.compile("[" + "".join(f"{chr(a)}-{chr(b - 1)}" for a, b in (*_CHARACTERS, *_SYLLABLE_PARTS)) + "]")
CHARACTERS_OF_ONE = 3
"""Characters that one of a script without spaces counts for: about as many say the same in English."""
_WORD_STEP, _SHINGLE_STEP = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95
"""Odd numbers of well-mixed bits, whose powers weigh the places in a word and in a shingle."""
_LONGEST = 64
"""A word's later characters weigh as the one so many before: such words are no words."""


class Shingles(NamedTuple):
    """Hashes of all documents' shingles, and where each document's begin and end in them (documents + 1,)."""

    hashes: Hashes
    offsets: Hashes


class Shingler:
    """Cuts documents into shingles of `words` words or `characters` characters; twice that of parts of syllables."""

    def __init__(self, words: int, characters: int) -> None:
        self.sizes = {WORD: words, MARK: words, CHARACTER: characters, SYLLABLE_PART: 2 * characters}

    def cut(self, texts: Sequence[str]) -> Shingles:
        """A document of fewer tokens than a shingle has one shingle, all of it; one without tokens has none."""
        tokens, kinds, ends = _tokens(texts)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        left = np.repeat(ends, ends - starts) - np.arange(len(tokens))  # tokens from here to the document's end
        hashes, chosen = np.zeros(len(tokens), np.uint64), np.zeros(len(tokens), bool)
        for kind, size in self.sizes.items():
            here = (kinds == kind) & (left >= size)
            if here.any():
                hashes[here] = _from_each(tokens, size)[here]
                chosen |= here
        counts = _between(chosen, starts, ends)
        short = starts[(counts == 0) & (ends > starts)]
        hashes[short], chosen[short] = _whole(tokens, short, left[short]), True
        counts = _between(chosen, starts, ends)
        return Shingles(mixed(hashes[chosen]), np.concatenate([np.zeros(1, np.int64), counts]).cumsum().astype("u8"))


def weighed_length(text: str) -> int:
    """Characters, each of a script without spaces (Han, kana, Thai and their like) as CHARACTERS_OF_ONE."""
    return len(text) if text.isascii() else len(text) + (CHARACTERS_OF_ONE - 1) * len(_WITHOUT_SPACES.findall(text))


def _between(chosen: Any, starts: Places, ends: Places) -> Places:
    """How many are chosen from each start to its end."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen)])
    return before[ends] - before[starts]


def _from_each(tokens: Hashes, size: int) -> Hashes:
    """A polynomial of the `size` tokens from each place on; places too near the end have a meaningless one."""
    total = np.zeros(len(tokens), np.uint64)
    for place in range(min(size, len(tokens))):
        total[: len(tokens) - place] += tokens[place:] * _power(_SHINGLE_STEP, place)
    return total


def _whole(tokens: Hashes, starts: Places, lengths: Places) -> Hashes:
    """The same polynomial of `lengths` tokens from each of `starts` on."""
    total = np.zeros(len(starts), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        there = np.flatnonzero(lengths > place)
        total[there] += tokens[starts[there] + place] * _power(_SHINGLE_STEP, place)
    return total


def _tokens(texts: Sequence[str]) -> tuple[Hashes, Kinds, Places]:
    """Hash and kind of each token of all texts, and where each text's tokens end."""
    hashes, kinds, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint8)], [np.zeros(0, np.int64)]
    for start, hashed, kind, first in _windows("\n".join([*texts, ""])):
        hashes.append(hashed)
        kinds.append(kind)
        places.append(first + start)
    lengths = np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts))
    ends = np.searchsorted(np.concatenate(places), np.cumsum(lengths))
    return np.concatenate(hashes), np.concatenate(kinds), ends


def _windows(text: str) -> Iterator[tuple[int, Hashes, Kinds, Places]]:
    """Of parts of the text, cut between tokens: where the part begins, and its tokens' hashes, kinds and places."""
    kind_of, hash_of = _tables()
    start = 0
    while start < len(text):
        points = _code_points(text[start : start + WINDOW])
        kinds = kind_of[points]
        first = _token_starts(kinds)
        end = len(points)
        if start + end < len(text) and len(first) and first[-1] > 0:
            end, first = int(first[-1]), first[:-1]  # the last one may go on
        if len(first):
            values = hash_of[points[:end]]
            values *= _powers()[_places_in_token(first, end) % _LONGEST]
            yield start, mixed(np.add.reduceat(values, first)), kinds[first], first
        start += end


def _token_starts(kinds: Kinds) -> Places:
    """A token begins at a letter after none, and at each character that stands alone or follows such a one."""
    inside, marks = kinds != SEPARATOR, kinds == MARK
    begins, before = inside.copy(), kinds[:-1]
    if marks.any():  # a mark belongs to what it follows
        owners = np.maximum.accumulate(np.where(marks, 0, np.arange(len(kinds))))
        before = kinds[owners[:-1]]
    begins[1:] &= ~inside[:-1] | (kinds[1:] > MARK) | ((before > MARK) & ~marks[1:])
    return np.flatnonzero(begins)


def _places_in_token(first: Places, length: int) -> Places:
    places = np.arange(length)
    places[first[0] :] -= np.repeat(first, np.diff(first, append=length))
    return places


def _code_points(text: str) -> Any:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.where(points < _KNOWN_POINTS, points, 0)


def _power(base: int, exponent: int) -> np.uint64:
    return np.uint64(pow(base, exponent, 1 << 64))


@cache
def _powers() -> Hashes:
    return np.array([_power(_WORD_STEP, place) for place in range(_LONGEST)], np.uint64)


@cache
def _tables() -> tuple[Kinds, Hashes]:
    """Kind and hash of each code point; capitals have their small letters' hash, separators 0."""
    kinds = np.array(
        [_LETTERS.get(unicodedata.category(chr(point))[0], SEPARATOR) for point in range(_KNOWN_POINTS)], np.uint8
    )
    for ranges, kind in ((_CHARACTERS, CHARACTER), (_SYLLABLE_PARTS, SYLLABLE_PART)):
        for first, end in ranges:
            part = kinds[first:end]
            part[part == WORD] = kind
    lower = np.array([ord(chr(point).lower()[0]) for point in range(_KNOWN_POINTS)], np.uint64)
    return kinds, np.where(kinds == SEPARATOR, np.uint64(0), mixed(lower + np.uint64(1)))


def mixed(values: Hashes) -> Hashes:
    """Every bit of a value spread over all of them: the end of splitmix64 (Steele et al. 2014, figure 15)."""
    mixed: Hashes = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
