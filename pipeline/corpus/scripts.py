"""Which writing systems a corpus is in: letters at the beginning of each document, counted by script.

A sample on purpose: whole documents would cost a tenth of the reading. By the names of Unicode's character database, of
which the first word is the script (Han is called CJK there). Characters are counted thousands of documents at a time,
half a microsecond a document.
"""

import unicodedata
from collections import Counter
from functools import lru_cache

import numpy as np

SAMPLED = 64
"""Characters of a document that are looked at."""
_FORMS = {"FULLWIDTH", "HALFWIDTH", "MODIFIER", "SMALL", "SUPERSCRIPT", "SUBSCRIPT"}
_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han"}
_TOGETHER = 4096


@lru_cache(maxsize=65536)
def script_of(character: str) -> str | None:
    """ "Latin", "Han", "Cyrillic", …; None for what is no letter."""
    if not unicodedata.category(character).startswith("L"):
        return None
    words = unicodedata.name(character, "UNNAMED").split()
    word = words[1] if words[0] in _FORMS and len(words) > 1 else words[0]
    return _NAMES.get(word, word.capitalize())


class ScriptSample:
    """Letters among the first SAMPLED characters of every text that was added."""

    def __init__(self) -> None:
        self._beginnings: list[str] = []
        self._characters = np.zeros(0, np.int64)

    def add(self, text: str) -> None:
        """Adds a text without lone surrogates."""
        self._beginnings.append(text[:SAMPLED])
        if len(self._beginnings) == _TOGETHER:
            self._count()

    def counts(self) -> dict[str, int]:
        """Letters by script, the scripts in the order of their names."""
        self._count()
        counts = Counter[str]()
        for code in np.flatnonzero(self._characters).tolist():
            script = script_of(chr(code))
            if script is not None:
                counts[script] += int(self._characters[code])
        return dict(sorted(counts.items()))

    def _count(self) -> None:
        codes = np.frombuffer("".join(self._beginnings).encode("utf-32-le"), "<u4")
        found = np.bincount(codes, minlength=len(self._characters))
        found[: len(self._characters)] += self._characters
        self._characters = found
        self._beginnings.clear()
