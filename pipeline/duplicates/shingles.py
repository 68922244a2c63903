"""Shingles: hashes of the runs of words, or of characters where a script puts no spaces, that two copies share.

A token is a word (a run of letters, marks and digits, in lower case) or, of Han, kana, Thai and their like, a character
with its marks. Punctuation, symbols and white space only separate. From each token on there is one shingle, as long as
its script asks for. Price: 3 ms a megabyte, and for a moment up to 17 bytes a byte of text.
"""

from typing import Any, NamedTuple

import numpy as np

from pipeline.duplicates.characters import CHARACTER, MARK, SYLLABLE_PART, WORD, Hashes, table
from pipeline.duplicates.texts import Texts

_WORD_STEP, _SHINGLE_STEP = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95
"""Odd numbers of well-mixed bits, whose powers weigh the places in a word and in a shingle."""
_LONGEST = 64
"""A word's later characters weigh as the one so many before: such words are no words."""
_KEPT_ROOM = 1 << 19
"""Bytes of texts for which there is always room: more is made anew each time."""


class Shingles(NamedTuple):
    """Hashes of all texts' shingles, and where each text's begin and end in them (texts + 1,)."""

    hashes: Hashes
    """Valid until the next texts are cut."""
    offsets: Hashes
    may_compose: Any
    """(texts,) bool: whether there is a character that Unicode's composed form (NFC) may not have."""


class Shingler:
    """Cuts texts into shingles of `words` words or `characters` characters; twice that of parts of syllables."""

    def __init__(self, words: int, characters: int) -> None:
        self.sizes = np.zeros(5, np.uint8)
        self.sizes[[WORD, MARK, CHARACTER, SYLLABLE_PART]] = words, words, characters, 2 * characters
        self.word_powers = _powers(_WORD_STEP, _LONGEST)
        self.powers = _powers(_SHINGLE_STEP, int(self.sizes.max()))
        self.room = _room(_KEPT_ROOM)

    def cut(self, texts: Texts) -> Shingles:
        """A text of fewer tokens than a shingle has one shingle, all of it; one without tokens has none."""
        from pipeline.duplicates.shingle_loops import cut_texts

        data = texts.array
        room = self.room if len(data) <= _KEPT_ROOM else _room(len(data))
        kinds, hashes = table()
        offsets = np.zeros(len(texts) + 1, np.uint64)
        powers = self.word_powers, self.powers
        may_compose = cut_texts(data, texts.starts, kinds, hashes, self.sizes, powers, room, offsets)
        return Shingles(room[0][: int(offsets[-1])], offsets, may_compose)


def _room(size: int) -> Any:
    """Of the shingles of so many bytes, and of their tokens; the loop reads a few more than there are."""
    return np.empty(size, np.uint64), np.zeros(size + 16, np.uint64), np.empty(size + 1, np.uint8)


def _powers(base: int, count: int) -> Hashes:
    return np.array([pow(base, exponent, 1 << 64) for exponent in range(count)], np.uint64)
