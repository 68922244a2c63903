"""Gopher's repetition rules (Rae et al. 2021, appendix A1.1 and table A1): lines, paragraphs and runs of words.

As the paper words it: of a repeated line or paragraph the second and later ones count; a run of n words ("n-gram") that
occurs twice counts with all its occurrences, and a character in overlapping ones once (RedPajama-V2 reads it so too;
datatrove counts only the repeats of 5- to 10-grams, as `count_first: false` does). Characters are those of words,
without white space. Exact: no hashes.
Price: 30 MB/s beside the words, and 13 x the text's bytes; runs of n words are looked for only where those of n - 1
occur twice.
"""

import numpy as np

from pipeline.base.cleaning_sections import GopherRepetitionConfig
from pipeline.cleaning.parts import Ints, Parts, repeated

_LETTERS_A_WORD = 2
"""In a text mostly without spaces, where words are letters, the table's n words are so many times n letters: a word of
Chinese has 1.5 to 2."""
_FIRST_TOP, _FIRST_DUPLICATE = 2, 5
"""The shortest n-grams of both rules."""

_PACKED = 1 << 63
"""Group, next word and start of a run are sorted as one number where it is smaller."""


class GopherRepetition:
    """The filter."""

    def __init__(self, config: GopherRepetitionConfig) -> None:
        self._config = config
        self._top = dict(enumerate(config.max_top_ngram, _FIRST_TOP))
        self._duplicate = dict(enumerate(config.max_duplicate_ngrams, _FIRST_DUPLICATE))
        limits = self._top | self._duplicate
        self._least = {n: min(limit for m, limit in limits.items() if m >= n) for n in limits}
        """The least limit of n-grams that long or longer."""

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        config = self._config
        limits = (config.max_duplicate_lines, config.max_duplicate_line_characters)
        fault = _repeated("lines", parts.lines, *limits)
        if not fault and len(parts.paragraphs) != len(parts.lines):
            limits = (config.max_duplicate_paragraphs, config.max_duplicate_paragraph_characters)
            fault = _repeated("paragraphs", parts.paragraphs, *limits)
        return fault or self._ngrams_fault(parts)

    def _ngrams_fault(self, parts: Parts) -> str:
        lengths = parts.lengths
        total = int(lengths.sum())
        runs = Runs(parts)
        factor = _LETTERS_A_WORD if parts.unspaced else 1
        for n in range(_FIRST_TOP, _FIRST_DUPLICATE + len(self._duplicate)):
            while runs.n < n * factor:
                runs.lengthen()
            if not len(runs.starts):
                return ""
            in_duplicates = int(lengths[runs.covered(runs.starts)].sum()) / total
            if in_duplicates <= self._least[n]:
                return ""  # longer runs that occur twice lie within these
            if self._top.get(n, 1) < in_duplicates:
                share = int(lengths[runs.covered(runs.commonest())].sum()) / total
                if share > self._top[n]:
                    return f"one {n}-gram too often: {share:.3g} of the characters"
            if n in self._duplicate and not self._config.count_first:
                in_duplicates = int(lengths[runs.covered(runs.repeats())].sum()) / total
            if in_duplicates > self._duplicate.get(n, 1):
                return f"duplicate {n}-grams: {in_duplicates:.3g} of the characters"
        return ""


class Runs:
    """The runs of n words of a text that occur more than once, for n = 1, then one more at each call of lengthen.

    starts (runs,): the first word of each; groups (runs,): equal where the words are, ascending.
    """

    def __init__(self, parts: Parts) -> None:
        self.n = 1
        self._parts = parts
        self.starts = np.flatnonzero((parts.counts > 1)[parts.ids]).astype(np.int32)
        self.groups = parts.ids[self.starts]

    def lengthen(self) -> None:
        """From n to n + 1 words: runs that start as runs of n do, grouped by the word that follows."""
        self.n += 1
        room = self.starts <= len(self._parts.ids) - self.n
        starts, groups = self.starts[room], self.groups[room]
        keys, starts = self._sorted(starts, groups)
        same = keys[1:] == keys[:-1]
        del keys, groups
        several = np.zeros(len(starts), bool)
        several[1:] = same
        several[:-1] |= same
        number = np.zeros(len(starts), np.int32)
        np.cumsum(~same, out=number[1:])
        self.starts, self.groups = starts[several], number[several]

    def _sorted(self, starts: Ints, groups: Ints) -> tuple[Ints, Ints]:
        """Of each run its group and next word as one number, and its start; by the number, then by the start."""
        words, size = len(self._parts.ids), len(self._parts.vocabulary)
        keys = groups.astype(np.int64)
        keys *= size
        keys += self._parts.ids[starts + (self.n - 1)]
        self.starts = self.groups = starts[:0]  # room for what is sorted
        if words * size * (int(groups.max(initial=0)) + 1) < _PACKED:
            keys *= words
            keys += starts
            keys.sort()  # in place, and faster than an order of them
            starts = (keys % words).astype(np.int32)
            keys //= words
            return keys, starts
        order = np.argsort(keys, kind="stable")
        return keys[order], starts[order]

    def repeats(self) -> Ints:
        """The starts without the first of each group."""
        return self.starts[1:][self.groups[1:] == self.groups[:-1]]

    def commonest(self) -> Ints:
        """The starts of the run that occurs most often; of several such, of the one with the most characters."""
        sizes = np.bincount(self.groups)
        most = np.flatnonzero(sizes == sizes.max())
        firsts = self.starts[np.searchsorted(self.groups, most)]
        characters = sum(self._parts.lengths[firsts + step] for step in range(self.n))
        return self.starts[self.groups == most[np.argmax(characters)]]

    def covered(self, starts: Ints) -> np.ndarray:
        """(words,): whether a word is in one of the runs of n words that start there."""
        steps = np.zeros(len(self._parts.ids) + 1, np.int8)
        steps[starts] += 1
        steps[starts + self.n] -= 1
        return np.cumsum(steps[:-1], dtype=np.int8) > 0  # at most n cover a word


def _repeated(what: str, items: list[str], most: float, most_characters: float) -> str:
    share, characters = repeated(items)
    if share > most:
        return f"duplicate {what}: {share:.3g}"
    return f"characters in duplicate {what}: {characters:.3g}" if characters > most_characters else ""
