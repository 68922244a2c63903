"""Gopher's repetition rules (Rae et al. 2021, appendix A1.1 and table A1): lines, paragraphs and runs of words.

As the paper words it: of a repeated line or paragraph the second and later ones count; a run of n words ("n-gram") that
occurs twice counts with all its occurrences, and a character in overlapping ones once (RedPajama-V2 reads it so too;
datatrove counts only the repeats of 5- to 10-grams, as `count_first: false` does). Characters are those of words,
without white space. Exact: where hashes are equal the words are compared.
Price: 250 MB/s or more beside words and lines, and 7 to 11 x the text's bytes; runs of n words are looked for only
where those of fewer words occur twice.
"""

import numpy as np

from pipeline.base.cleaning_sections import GopherRepetitionConfig
from pipeline.cleaning.parts import Parts, Repeats

_LETTERS_A_WORD = 2
"""In a text mostly without spaces, where words are letters, the table's n words are so many times n letters: a word of
Chinese has 1.5 to 2."""


class GopherRepetition:
    """The filter."""

    def __init__(self, config: GopherRepetitionConfig) -> None:
        self._config = config
        limits = (*config.max_top_ngram, *config.max_duplicate_ngrams)
        least = [min(limits[place:]) for place in range(len(limits))]
        self._limits = tuple(np.array(each) for each in (config.max_top_ngram, config.max_duplicate_ngrams, least))
        """Of the commonest n-gram, of those that occur twice, and the least of n-grams that long or longer."""

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        config, lines = self._config, parts.lines
        limits = (config.max_duplicate_lines, config.max_duplicate_line_characters)
        fault = _repeated("lines", lines.repeats, *limits)
        if not fault and lines.paragraphs.items != lines.repeats.items:
            limits = (config.max_duplicate_paragraphs, config.max_duplicate_paragraph_characters)
            fault = _repeated("paragraphs", lines.paragraphs, *limits)
        return fault or self._ngrams_fault(parts)

    def _ngrams_fault(self, parts: Parts) -> str:
        from pipeline.cleaning.run_loops import DUPLICATE, TOP, ngram_fault  # late: loads Numba

        words = parts.words
        factor = _LETTERS_A_WORD if parts.unspaced else 1
        rule, n, share = ngram_fault(
            words.ids, words.counts, words.lengths, factor, self._limits, self._config.count_first
        )
        if rule == TOP:
            return f"one {n}-gram too often: {share:.3g} of the characters"
        return f"duplicate {n}-grams: {share:.3g} of the characters" if rule == DUPLICATE else ""


def _repeated(what: str, items: Repeats, most: float, most_characters: float) -> str:
    if items.share > most:
        return f"duplicate {what}: {items.share:.3g}"
    characters = items.share_of_characters
    return f"characters in duplicate {what}: {characters:.3g}" if characters > most_characters else ""
