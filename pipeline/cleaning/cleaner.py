"""What happens to a document: filters that mend it, then filters that drop it, in one order whatever the config's.

The same text, address and config give the same outcome, on any machine. What a filter needs (ftfy, fastText, lists of
stop words, blocklists) is loaded when it is named. Price: docs/cleaning.md has each filter's.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.base.cleaning_sections import CleanConfig
from pipeline.cleaning.blocklist import Blocklist
from pipeline.cleaning.c4 import C4
from pipeline.cleaning.gopher_quality import GopherQuality
from pipeline.cleaning.gopher_repetition import GopherRepetition
from pipeline.cleaning.language import Language
from pipeline.cleaning.parts import Parts
from pipeline.cleaning.personal_data import PersonalData
from pipeline.cleaning.quality import FineWeb, Length, Ratios
from pipeline.cleaning.repair import Repair
from pipeline.cleaning.stop_words import StopWords

MENDING: dict[str, Callable[[Any], Any]] = {"repair": Repair, "c4": C4, "personal_data": PersonalData}
"""Filters with mend(text, edits) -> (text, reason)."""
DROPPING: dict[str, Callable[[Any], Any]] = {
    "blocklist": Blocklist,
    "length": Length,
    "language": Language,
    "ratios": Ratios,
    "stop_words": StopWords,
    "gopher_quality": GopherQuality,
    "fineweb": FineWeb,
    "gopher_repetition": GopherRepetition,
}
"""Filters with fault(parts) -> reason; the dearer ones last."""
FILTERS = (*MENDING, *DROPPING)
"""In their order. A blocklist's domains are looked at before everything: they need no text."""


class Outcome(NamedTuple):
    """What became of a document: its text as mended; or None, the filter that dropped it, why, and the text to show.

    A reason reads "kind" or "kind: particulars". `shown` is the text as the filter saw it, of a long one perhaps the
    beginning; with personal_data on it holds marks, also where the filter comes before that one.
    """

    text: str | None
    filter: str = ""
    reason: str = ""
    shown: str = ""


_SHOWN, _LONGEST_DATUM = 2000, 400
"""Characters of which an example is made, and those at their end that may hold a part of an address or number."""


class Cleaner:
    """The filters of a config. UserError where one cannot work, such as for a blocklist that is missing."""

    edits: Counter[str]
    """What was mended in the documents kept: "repair": documents changed; "c4.lines", "c4.citations": taken out;
    "personal_data.email" and so on: marks put in."""

    def __init__(self, config: CleanConfig) -> None:
        named = {name: section for name in FILTERS if (section := getattr(config, name)) is not None}
        self._mending = [(name, MENDING[name](named[name])) for name in MENDING if name in named]
        self._dropping = [(name, DROPPING[name](named[name])) for name in DROPPING if name in named]
        filters = dict(self._dropping)
        self._blocklist: Blocklist | None = filters.get("blocklist")
        self._language: Language | None = filters.get("language")
        self._personal_data: PersonalData | None = dict(self._mending).get("personal_data")
        self.names = tuple(named)
        """The filters that are on, in their order."""
        self.edits = Counter()

    @property
    def active(self) -> bool:
        """Whether some filter is on."""
        return bool(self._mending or self._dropping)

    @property
    def languages(self) -> Counter[str]:
        """Documents by the language identified, dropped ones too; of those that reached the language filter."""
        return self._language.languages if self._language else Counter()

    def apply(self, text: str, url: str = "") -> Outcome:
        """What becomes of the document that comes from there."""
        if self._blocklist and (reason := self._blocklist.domain_fault(url)):
            return Outcome(None, "blocklist", reason, self._marked(text))
        edits: Counter[str] = Counter()
        for name, filter_ in self._mending:
            mended, reason = filter_.mend(text, edits)
            if reason:
                return Outcome(None, name, reason, self._marked(text))
            text = mended
        parts = Parts(text)
        for name, filter_ in self._dropping:
            if reason := filter_.fault(parts):
                return Outcome(None, name, reason, text)
        self.edits.update(edits)
        return Outcome(text)

    def _marked(self, text: str) -> str:
        """What may be shown of a text that personal_data has not seen."""
        if self._personal_data is None:
            return text
        marked, _ = self._personal_data.mend(text[:_SHOWN], Counter())
        return marked if len(text) <= _SHOWN else marked[:-_LONGEST_DATUM]


def config_files(config: CleanConfig) -> list[Path]:
    """The user's files that the outcome depends on."""
    blocklist = config.blocklist
    files = (blocklist.domains_file, blocklist.words_file) if blocklist else ()
    return [Path(file) for file in files if file is not None]
