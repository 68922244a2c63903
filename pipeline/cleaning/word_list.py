"""A list of words in which those of a text are looked up, by a compiled loop. Price: 600 MB/s beside the words."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.cleaning.parts import Parts


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

    def find(self, parts: Parts, most: int | None = None) -> set[str]:
        """The words of the list that are in the text, or among its first different words, so many at most."""
        from pipeline.cleaning.word_loops import find_words

        words = parts.words
        found = find_words(parts.points, words.starts[:most], words.lengths[:most], self._listed)
        return {self.words[number] for number in found.tolist()}
