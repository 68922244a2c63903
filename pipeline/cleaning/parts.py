"""A text taken apart: lines, paragraphs, words, kinds of characters; once a document, however many filters ask.

Price: about 25 MB/s for words with their numbers, 200 MB/s for kinds of characters. Of a long text's words only the
different ones are held.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.cleaning.words import PIECE, has_unspaced, pieces, split_words

Ints = npt.NDArray[np.signedinteger[Any]]
"""Of the words of a text there are int32: a record of 4 GiB would be the first with too many."""
TERMINAL = tuple(".!?…\"'”’»」』。！？．｡؟۔।॥።။។།")
"""What ends a sentence, or the quotation of one, in many scripts."""
AROUND_WORDS = ".,;:!?()[]{}\"'“”‘’«»„…-–—¿¡*_"
"""What stands before or after a word."""
LETTER, DIGIT, PUNCTUATION, SYMBOL, SPACE, OTHER = range(6)
"""Kinds of characters. Marks count as letters; other numbers than decimal digits, and controls, are OTHER."""
_KINDS = {"L": LETTER, "M": LETTER, "P": PUNCTUATION, "S": SYMBOL, "Z": SPACE}


class Parts:
    """A text's parts. Lines are those that are not blank, without white space at their ends; paragraphs are runs of
    such lines, separated by blank ones."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._kept: list[list[str]] | None = None
        self.identified: tuple[str, float] | None = None
        """Language and its probability, once some filter has asked."""

    @cached_property
    def lines(self) -> list[str]:
        """In order."""
        return [line for part in self.text.split("\n") if (line := part.strip())]

    @cached_property
    def paragraphs(self) -> list[str]:
        """In order, each with its inner line breaks."""
        found: list[list[str]] = [[]]
        for part in self.text.split("\n"):
            if line := part.strip():
                found[-1].append(line)
            elif found[-1]:
                found.append([])
        return ["\n".join(lines) for lines in found if lines]

    @cached_property
    def word_count(self) -> int:
        """How many there are; pipeline/cleaning/words.py says what a word is."""
        return len(self.ids) if "_numbered" in vars(self) else sum(map(len, self._words()))

    def _words(self) -> Iterable[list[str]]:
        """The words in order, of a long text a piece at a time; those of one piece are kept until they are numbered."""
        if len(self.text) > PIECE:
            return map(split_words, pieces(self.text))
        if self._kept is None:
            self._kept = [split_words(self.text)]
        return self._kept

    @cached_property
    def _numbered(self) -> tuple[dict[str, int], Ints]:
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        ids = [np.fromiter(map(numbers.__getitem__, words), np.int32, len(words)) for words in self._words()]
        numbers.default_factory = None  # else it would hold itself, and wait for the garbage collector
        self._kept = None
        return numbers, np.concatenate([np.zeros(0, np.int32), *ids])

    @property
    def vocabulary(self) -> dict[str, int]:
        """The different words, as they come, and their numbers."""
        return self._numbered[0]

    @property
    def ids(self) -> Ints:
        """(words,): the number of each."""
        return self._numbered[1]

    @cached_property
    def counts(self) -> Ints:
        """(vocabulary,): how often each occurs."""
        return np.bincount(self.ids, minlength=len(self.vocabulary))

    @cached_property
    def lengths(self) -> Ints:
        """(words,): characters of each."""
        return self.vocabulary_lengths[self.ids]

    @cached_property
    def vocabulary_lengths(self) -> Ints:
        """(vocabulary,): characters of each."""
        return np.fromiter(map(len, self.vocabulary), np.int32, len(self.vocabulary))

    @cached_property
    def unspaced(self) -> bool:
        """Whether more than half of the words are letters of scripts without spaces."""
        if not has_unspaced(self.text):
            return False
        counted = zip(self.counts.tolist(), self.vocabulary, strict=True)
        return 2 * sum(count for count, word in counted if has_unspaced(word)) > len(self.ids)

    @cached_property
    def characters(self) -> Ints:
        """(6,): how many there are of each kind."""
        points = np.frombuffer(self.text.encode("utf-32-le"), np.uint32)
        return np.bincount(_kinds()[points], minlength=6)


def repeated(items: list[str]) -> tuple[float, float]:
    """Of lines or paragraphs, the share that repeats an earlier one, and their share of the characters."""
    unique = set(items)
    if len(unique) == len(items):
        return 0.0, 0.0
    total = sum(map(len, items))
    return (len(items) - len(unique)) / len(items), (total - sum(map(len, unique))) / total


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """(code points,): the kind of each. Planes 2 and 3 are Han, those beyond for private use."""
    kinds = np.full(0x110000, OTHER, np.uint8)
    kinds[:0x20000] = np.fromiter(map(_kind, map(chr, range(0x20000))), np.uint8, 0x20000)
    kinds[0x20000:0x40000] = LETTER
    return kinds


def _kind(character: str) -> int:
    if character.isspace():
        return SPACE
    category = unicodedata.category(character)
    return DIGIT if category == "Nd" else _KINDS.get(category[0], OTHER)
