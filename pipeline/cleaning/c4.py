"""C4's rules (Raffel et al. 2020, section 2.2): lines that are no sentences go, then pages with too few sentences left.

Thresholds as in the released code (tensorflow_datasets, c4_utils.py: 5 words a line, 3 sentences a page), which also
has the longest word and the ellipsis, no terminal mark there. Where the code looks for "lorem ipsum" and "{" only in
lines that are kept, here the whole text is looked at, as the paper says. The code's sentences are NLTK's; here they are
counted by their marks. C4's bad words are the blocklist's matter, its languages the language filter's. Blank lines stay
where they part paragraphs. Price: 45 MB/s.
"""

import re
from collections import Counter

from pipeline.base.cleaning_sections import C4Config
from pipeline.cleaning.characters import TERMINAL
from pipeline.cleaning.words import split_words

_CITATION = re.compile(r"\[(?:\d{0,4}|edit|citation needed)\]")
_ELLIPSES = ("...", "…")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_SENTENCE_END = re.compile(r"[.!?]++[\"'”’)\]]*+(?=\s|$)|[。！？．｡؟۔।॥።။។།]++")


class C4:
    """The filter. It both mends and drops."""

    def __init__(self, config: C4Config) -> None:
        self._config = config

    def mend(self, text: str, edits: Counter[str]) -> tuple[str, str]:
        """The text and "", or "" and why the document is dropped; adds the lines and marks taken out to edits."""
        config = self._config
        if config.curly_bracket and "{" in text:
            return "", "curly bracket"
        lowered = text.lower()
        if config.lorem_ipsum and "lorem ipsum" in lowered:
            return "", "lorem ipsum"
        if config.citations and "[" in text:
            text, citations = _CITATION.subn("", text)
            edits.update({"c4.citations": citations} if citations else {})
        unwanted = ["javascript"] if config.javascript else []
        unwanted += _POLICIES if config.policy else []
        unwanted = [phrase for phrase in unwanted if phrase in lowered]
        kept: list[str] = []
        sentences = 0
        for part in text.split("\n"):
            line = part.strip()
            if not line:
                if kept and kept[-1]:
                    kept.append("")
            elif self._goes(line, unwanted):
                edits["c4.lines"] += 1
            else:
                kept.append(line)
                if sentences < config.min_sentences:
                    sentences += max(1, len(_SENTENCE_END.findall(line)))
        if sentences < config.min_sentences:
            return "", f"too few sentences: {sentences}"
        mended = "\n".join(kept).strip()
        return (mended, "") if mended else ("", "no line left")

    def _goes(self, line: str, unwanted: list[str]) -> bool:
        config = self._config
        if config.terminal_punctuation and (not line.endswith(TERMINAL) or line.endswith(_ELLIPSES)):
            return True
        words = split_words(line)
        if len(words) < config.min_line_words:
            return True
        if len(line) > config.max_word_characters and max(map(len, words)) > config.max_word_characters:
            return True
        return bool(unwanted) and any(map(line.lower().__contains__, unwanted))
