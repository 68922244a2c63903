"""Gopher's quality rules (Rae et al. 2021, appendix A1.1): length, mean word length, symbols, bullets, stop words.

Words are as in pipeline/cleaning/words.py; the paper does not say how it splits. Two rules only make sense where words
stand between spaces, and are not asked of a text that is mostly written without: mean word length and stop words.
Price: 20 MB/s, nearly all of it words that gopher_repetition and stop_words use again.
"""

import re

from pipeline.base.cleaning_sections import GopherQualityConfig
from pipeline.cleaning.parts import AROUND_WORDS, Parts

_LETTER = re.compile(r"[^\W\d_]")
_BULLETS = ("•", "‣", "◦", "▪", "●", "■", "-", "*", "·")
"""The paper names no characters."""
_ELLIPSES = ("...", "…")


class GopherQuality:
    """The filter."""

    def __init__(self, config: GopherQualityConfig) -> None:
        self._config = config
        self._stop_words = [(word, word.capitalize(), word.upper()) for word in dict.fromkeys(config.stop_words)]

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        config = self._config
        words = parts.word_count
        if words < config.min_words:
            return f"too few words: {words}"
        if words > config.max_words:
            return f"too many words: {words}"
        if not words:
            return ""
        return self._words_fault(parts) or self._lines_fault(parts)

    def _words_fault(self, parts: Parts) -> str:
        config, words = self._config, parts.word_count
        mean = int(parts.counts @ parts.vocabulary_lengths) / words
        if mean < config.min_mean_word_length and not parts.unspaced:
            return f"words too short: {mean:.3g} characters"
        if mean > config.max_mean_word_length:
            return f"words too long: {mean:.3g} characters"
        hashes = parts.text.count("#") / words
        if hashes > config.max_symbols_per_word:
            return f"too many hashes: {hashes:.3g} a word"
        ellipses = sum(map(parts.text.count, _ELLIPSES)) / words
        if ellipses > config.max_symbols_per_word:
            return f"too many ellipses: {ellipses:.3g} a word"
        bare = int(parts.counts[[number for word, number in parts.vocabulary.items() if _bare(word)]].sum())
        if (words - bare) / words < config.min_words_with_letter:
            return f"too few words with a letter: {(words - bare) / words:.3g}"
        if config.min_stop_words and not parts.unspaced:
            found = sum(any(form in parts.vocabulary for form in forms) for forms in self._stop_words)
            if found < config.min_stop_words:  # "that," and “The” are asked for only now: it costs
                bare_words = {word.strip(AROUND_WORDS) for word in parts.vocabulary}
                found = sum(any(form in bare_words for form in forms) for forms in self._stop_words)
            if found < config.min_stop_words:
                return f"too few stop words: {found}"
        return ""

    def _lines_fault(self, parts: Parts) -> str:
        config, lines = self._config, parts.lines
        bullets = sum(line.startswith(_BULLETS) for line in lines) / len(lines)
        if bullets > config.max_bullet_lines:
            return f"too many bullet lines: {bullets:.3g}"
        endings = sum(line.endswith(_ELLIPSES) for line in lines) / len(lines)
        if endings > config.max_ellipsis_lines:
            return f"too many lines ending in an ellipsis: {endings:.3g}"
        return ""


def _bare(word: str) -> bool:
    """Whether it holds no letter."""
    return not word[0].isalpha() and _LETTER.search(word) is None
