"""Which writing systems a corpus is in: letters at the beginning of each document, counted by script.

A sample on purpose: whole documents would cost a tenth of the reading. By the names of Unicode's character database, of
which the first word is the script (Han is called CJK there).
"""

import unicodedata
from collections import Counter
from functools import lru_cache

SAMPLED = 64
"""Characters of a document that are looked at."""
_FORMS = {"FULLWIDTH", "HALFWIDTH", "MODIFIER", "SMALL", "SUPERSCRIPT", "SUBSCRIPT"}
_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han"}


@lru_cache(maxsize=65536)
def script_of(character: str) -> str | None:
    """ "Latin", "Han", "Cyrillic", …; None for what is no letter."""
    if not unicodedata.category(character).startswith("L"):
        return None
    words = unicodedata.name(character, "UNNAMED").split()
    word = words[1] if words[0] in _FORMS and len(words) > 1 else words[0]
    return _NAMES.get(word, word.capitalize())


def count_scripts(text: str, counts: Counter[str]) -> None:
    """Adds the letters among the text's first SAMPLED characters."""
    for character in text[:SAMPLED]:
        script = script_of(character)
        if script is not None:
            counts[script] += 1
