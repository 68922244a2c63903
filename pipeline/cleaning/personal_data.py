"""Personal data as marks: <EMAIL>, <CARD>, <IP>, <PHONE>.

By patterns, so names stay, and what is written in no usual form; docs/cleaning.md says what is believed. Nothing reads
further than a few hundred characters at a time, whatever the text. Price: 80 MB/s.
"""

from collections import Counter
from collections.abc import Callable

from pipeline.base.cleaning_sections import PersonalDataConfig
from pipeline.cleaning.personal_addresses import mark_emails, mark_ips
from pipeline.cleaning.personal_numbers import mark_cards, mark_phones

_MARKS: dict[str, Callable[[str], tuple[str, int]]] = {
    "email": mark_emails,
    "card": mark_cards,
    "ip": mark_ips,
    "phone": mark_phones,
}
"""In this order: the digits of an address or a card are no phone number."""


class PersonalData:
    """The filter. It drops nothing."""

    def __init__(self, config: PersonalDataConfig) -> None:
        self._marks = {f"personal_data.{kind}": mark for kind, mark in _MARKS.items() if kind in config.kinds}

    def mend(self, text: str, edits: Counter[str]) -> tuple[str, str]:
        """The text and ""; adds the marks that were put in to edits."""
        for name, mark in self._marks.items():
            text, count = mark(text)
            if count:
                edits[name] += count
        return text, ""
