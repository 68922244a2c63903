"""Gopher's quality rules (Rae et al. 2021, appendix A1.1): length, mean word length, symbols, bullets, stop words.

Words are as in pipeline/cleaning/words.py; the paper does not say how it splits. Two rules only make sense where words
stand between spaces, and are not asked of a text that is mostly written without: mean word length and stop words.
Price: 90 MB/s, nearly all of it words that gopher_repetition and stop_words use again.
"""

from pipeline.base.cleaning_sections import GopherQualityConfig
from pipeline.cleaning.parts import AROUND_WORDS, Parts

_BEGINNING = 50
"""Different words among which nearly every text has the stop words."""
_ELLIPSES = ("...", "…")


class GopherQuality:
    """The filter."""

    def __init__(self, config: GopherQualityConfig) -> None:
        self._config = config
        self._stop_words = [{word, word.capitalize(), word.upper()} for word in dict.fromkeys(config.stop_words)]

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        config = self._config
        words = len(parts.words.ids)
        if words < config.min_words:
            return f"too few words: {words}"
        if words > config.max_words:
            return f"too many words: {words}"
        if not words:
            return ""
        return self._words_fault(parts) or self._lines_fault(parts)

    def _words_fault(self, parts: Parts) -> str:
        config, words = self._config, len(parts.words.ids)
        mean = parts.words.characters / words
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
        with_letter = (words - parts.words.bare) / words
        if with_letter < config.min_words_with_letter:
            return f"too few words with a letter: {with_letter:.3g}"
        if config.min_stop_words and not parts.unspaced:
            found = self._count_stop_words(set(parts.different(_BEGINNING)))
            if found < config.min_stop_words:
                found = self._count_stop_words(set(parts.vocabulary))
            if found < config.min_stop_words:  # "that," and “The” are asked for only now: it costs
                found = self._count_stop_words({word.strip(AROUND_WORDS) for word in parts.vocabulary})
            if found < config.min_stop_words:
                return f"too few stop words: {found}"
        return ""

    def _count_stop_words(self, words: set[str]) -> int:
        return sum(not forms.isdisjoint(words) for forms in self._stop_words)

    def _lines_fault(self, parts: Parts) -> str:
        config, lines = self._config, parts.lines
        number = len(lines.lengths)
        bullets = lines.bullets / number
        if bullets > config.max_bullet_lines:
            return f"too many bullet lines: {bullets:.3g}"
        endings = lines.ellipses / number
        if endings > config.max_ellipsis_lines:
            return f"too many lines ending in an ellipsis: {endings:.3g}"
        return ""
