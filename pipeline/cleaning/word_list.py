"""A list of words in which those of a text are looked up, by a compiled loop. Price: 150 MB/s beside the words."""

from collections.abc import Iterable
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cleaning.characters import ASK, Classes, chosen, folded
from pipeline.cleaning.parts import AROUND_WORDS, Parts


class WordList:
    """The list, in its order without what repeats. Its table is made when it is asked first."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(dict.fromkeys(words))

    @cached_property
    def _listed(self) -> tuple[Any, ...]:
        from pipeline.cleaning.word_loops import enter_words  # late: loads Numba

        points = np.frombuffer("".join(self.words).encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = np.array([len(word) for word in self.words], np.int64)
        starts = np.cumsum(lengths) - lengths
        return points, starts, lengths, enter_words(points, starts, lengths)

    def is_one(self, word: str) -> bool:
        """Whether a word is of the list: as it is, in lower case, or so without what stands around words."""
        if word in self._set:
            return True
        lower = word.lower().replace("’", "'")
        return lower in self._set or lower.strip(AROUND_WORDS) in self._set

    def count(self, parts: Parts) -> int:
        """How many of the text's words are of the list, which is in lower case."""
        from pipeline.cleaning.word_loops import count_folded

        words = parts.words
        counted = (words.starts, words.lengths, words.counts)
        found, asked = count_folded(parts.points, counted, self._fold, _around(), self._listed)
        for number in asked.tolist():
            start = words.starts[number]
            found += words.counts[number] * self.is_one(parts.text[start : start + words.lengths[number]])
        return int(found)

    @cached_property
    def _set(self) -> frozenset[str]:
        return frozenset(self.words)

    @cached_property
    def _fold(self) -> NDArray[np.uint32]:
        """An apostrophe may have either form, but where the list has words with the typographic one."""
        fold = folded().copy()
        fold[ord("’")] = ASK if any("’" in word for word in self.words) else ord("'")
        fold.setflags(write=False)
        return fold


@cache
def _around() -> Classes:
    return chosen(AROUND_WORDS)
