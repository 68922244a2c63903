"""Filters of a rule or four: length, kinds of characters, and FineWeb's lines.

FineWeb: Penedo et al. 2024, section 3.6, with its thresholds, each of which belongs to the dropped side; the released
code (datatrove) has 0.01 where the paper has 0.1 for duplicate lines. The others are no paper's.
Price: over 300 MB/s each beside the words.
"""

import numpy as np

from pipeline.base.cleaning_sections import FineWebConfig, LengthConfig, RatiosConfig
from pipeline.cleaning.characters import DIGIT, LETTER, PUNCTUATION, SPACE, SYMBOL
from pipeline.cleaning.parts import Parts


class Length:
    """The filter."""

    def __init__(self, config: LengthConfig) -> None:
        self._characters = (config.min_characters, config.max_characters)
        self._words = (config.min_words, config.max_words)

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        fault = _outside("characters", len(parts.text), *self._characters)
        if not fault and self._words != (None, None):
            fault = _outside("words", len(parts.words.ids), *self._words)
        return fault


def _outside(unit: str, size: int, least: int | None, most: int | None) -> str:
    if least is not None and size < least:
        return f"too few {unit}: {size}"
    return f"too many {unit}: {size}" if most is not None and size > most else ""


class Ratios:
    """The filter."""

    def __init__(self, config: RatiosConfig) -> None:
        self._config = config

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        config = self._config
        counts = parts.characters.tolist()
        total = sum(counts) - counts[SPACE]
        if not total:
            return ""
        limits = (
            ("symbols", SYMBOL, config.max_symbols),
            ("digits", DIGIT, config.max_digits),
            ("punctuation marks", PUNCTUATION, config.max_punctuation),
        )
        for name, kind, most in limits:
            if counts[kind] / total > most:
                return f"too many {name}: {counts[kind] / total:.3g}"
        if counts[LETTER] / total < config.min_letters:
            return f"too few letters: {counts[LETTER] / total:.3g}"
        return ""


class FineWeb:
    """The filter."""

    def __init__(self, config: FineWebConfig) -> None:
        self._config = config

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        config, lines = self._config, parts.lines
        number = len(lines.lengths)
        if not number:
            return ""
        punctuated = lines.terminal / number
        if config.min_punctuated_lines is not None and punctuated <= config.min_punctuated_lines:
            return f"too few lines end in punctuation: {punctuated:.3g}"
        characters = lines.repeats.share_of_characters
        if config.max_duplicate_line_characters is not None and characters >= config.max_duplicate_line_characters:
            return f"characters in duplicate lines: {characters:.3g}"
        short = np.count_nonzero(lines.lengths < config.short_line_characters) / number
        if config.max_short_lines is not None and short >= config.max_short_lines:
            return f"too many short lines: {short:.3g}"
        return ""
