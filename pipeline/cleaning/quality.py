"""Filters of a rule or four: length, kinds of characters, stop words, and FineWeb's lines.

FineWeb: Penedo et al. 2024, section 3.6, with its thresholds, each of which belongs to the dropped side; the released
code (datatrove) has 0.01 where the paper has 0.1 for duplicate lines. The others are no paper's.
Price: over 100 MB/s each beside the words; stop_words 20 MB/s.
"""

from pipeline.base.cleaning_sections import FineWebConfig, LengthConfig, RatiosConfig, StopWordsConfig
from pipeline.base.errors import UserError
from pipeline.cleaning.parts import DIGIT, LETTER, PUNCTUATION, SPACE, SYMBOL, TERMINAL, Parts, repeated
from pipeline.cleaning.words import has_unspaced


class Length:
    """The filter."""

    def __init__(self, config: LengthConfig) -> None:
        self._characters = (config.min_characters, config.max_characters)
        self._words = (config.min_words, config.max_words)

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        fault = _outside("characters", len(parts.text), *self._characters)
        if not fault and self._words != (None, None):
            fault = _outside("words", len(parts.words), *self._words)
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


class StopWords:
    """The filter. In a script without spaces the stop words of one letter are counted, since words are letters."""

    def __init__(self, config: StopWordsConfig) -> None:
        import stopwordsiso  # late: reads all its lists

        self._config = config
        words = {word.lower() for word in stopwordsiso.stopwords(config.language) if any(map(str.isalpha, word))}
        if not words:
            known = ", ".join(sorted(stopwordsiso.langs()))
            raise UserError(
                f"clean.stop_words.language: there is no list of stop words for {config.language}; there are {known}."
            )
        self._unspaced = 2 * sum(map(has_unspaced, words)) > len(words)
        self._words = {word for word in words if len(word) == 1} if self._unspaced else words
        if not self._words:
            raise UserError(
                f"clean.stop_words.language: {config.language} is written without spaces and has no stop words of one "
                "letter, so they cannot be counted: leave the filter out."
            )

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        words = len(parts.words)
        if self._unspaced:
            found = sum(map(parts.text.count, self._words))
        else:
            found = int(parts.counts[[number for word, number in parts.vocabulary.items() if self._is_one(word)]].sum())
        if found < self._config.min_count:
            return f"too few stop words: {found}"
        if words and found / words < self._config.min_share:
            return f"too small a share of stop words: {found / words:.3g}"
        return ""

    def _is_one(self, word: str) -> bool:
        return word in self._words or word.lower().strip(_AROUND) in self._words


_AROUND = ".,;:!?()[]{}\"'“”‘’«»„…-–—¿¡*_"
"""What stands before or after a word."""


class FineWeb:
    """The filter."""

    def __init__(self, config: FineWebConfig) -> None:
        self._config = config

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        config, lines = self._config, parts.lines
        if not lines:
            return ""
        punctuated = sum(line.endswith(TERMINAL) for line in lines) / len(lines)
        if config.min_punctuated_lines is not None and punctuated <= config.min_punctuated_lines:
            return f"too few lines end in punctuation: {punctuated:.3g}"
        characters = repeated(lines)[1]
        if config.max_duplicate_line_characters is not None and characters >= config.max_duplicate_line_characters:
            return f"characters in duplicate lines: {characters:.3g}"
        short = sum(len(line) < config.short_line_characters for line in lines) / len(lines)
        if config.max_short_lines is not None and short >= config.max_short_lines:
            return f"too many short lines: {short:.3g}"
        return ""
