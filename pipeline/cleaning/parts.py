"""A text taken apart: lines, paragraphs, words, kinds of characters; once a document, however many filters ask.

The loops are compiled and are loaded when the first text is asked for what they find. Price: 110 MB/s for all of it,
nearly all of that for the words.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.cleaning.characters import classes, points_of

Ints = npt.NDArray[np.signedinteger[Any]]
"""Of the words of a text there are int32: a record of 4 GiB would be the first with too many."""
AROUND_WORDS = ".,;:!?()[]{}\"'“”‘’«»„…-–—¿¡*_"
"""What stands before or after a word."""


class Repeats(NamedTuple):
    """Lines or paragraphs: how many, how many different ones, and the characters of both."""

    items: int
    different: int
    characters: int
    different_characters: int

    @property
    def share(self) -> float:
        """Of the items, those that repeat an earlier one."""
        return (self.items - self.different) / self.items if self.items else 0.0

    @property
    def share_of_characters(self) -> float:
        """Of the characters, those in such items."""
        repeated = self.characters - self.different_characters
        return repeated / self.characters if repeated else 0.0


class Lines(NamedTuple):
    """Lines are those that are not blank, without white space at their ends; paragraphs are runs of such lines,
    separated by blank ones, with their inner line breaks."""

    lengths: Ints
    """(lines,): characters of each."""
    bullets: int
    """Those that begin with a bullet."""
    terminal: int
    """Those that end a sentence."""
    ellipses: int
    """Those that end in an ellipsis."""
    repeats: Repeats
    paragraphs: Repeats


class Words(NamedTuple):
    """Words are as in pipeline/cleaning/words.py, numbered as they come."""

    ids: Ints
    """(words,): the number of each."""
    starts: Ints
    """(vocabulary,): where each of the different words stands first, in characters of the text."""
    lengths: Ints
    """(vocabulary,): characters of each."""
    counts: Ints
    """(vocabulary,): how often each occurs."""
    unspaced: int
    """Words that are a letter of a script without spaces."""
    bare: int
    """Words without a letter."""
    characters: int
    """Those of all words."""


class Parts:
    """A text's parts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.identified: tuple[str, float] | None = None
        """Language and its probability, once some filter has asked."""

    @cached_property
    def points(self) -> npt.NDArray[Any]:
        """(characters,): code points."""
        return points_of(self.text)

    @cached_property
    def words(self) -> Words:
        """The words."""
        from pipeline.cleaning.word_loops import number_words

        ids, starts, lengths, counts, sums = number_words(self.points, classes())
        return Words(ids, starts, lengths, counts, *sums)

    @cached_property
    def vocabulary(self) -> list[str]:
        """(vocabulary,): the different words, as they come."""
        return self.different(None)

    def different(self, most: int | None) -> list[str]:
        """The first of the vocabulary, so many at most."""
        text, words = self.text, self.words
        places = zip(words.starts[:most].tolist(), words.lengths[:most].tolist(), strict=True)
        return [text[start : start + length] for start, length in places]

    @property
    def unspaced(self) -> bool:
        """Whether more than half of the words are letters of scripts without spaces."""
        return 2 * self.words.unspaced > len(self.words.ids)

    @cached_property
    def lines(self) -> Lines:
        """The lines and paragraphs."""
        from pipeline.cleaning.line_loops import take_lines

        lengths, (bullets, terminal, ellipses), repeats, paragraphs = take_lines(self.points, classes())
        return Lines(lengths, bullets, terminal, ellipses, Repeats(*repeats), Repeats(*paragraphs))

    @cached_property
    def characters(self) -> Ints:
        """(8,): how many there are of each kind (pipeline/cleaning/characters.py)."""
        from pipeline.cleaning.word_loops import count_kinds

        counts: Ints = count_kinds(self.points, classes())
        return counts
