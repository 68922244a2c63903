"""Records: what a reader yields, and when a text is valid.

A reader yields every record of its input, good or bad, in order; nothing is dropped without a reason. A reason reads
"kind" or "kind: particulars", and kinds are counted. Line numbers count from 1 within the part of the file that was
read (a row of a Parquet file counts as a line).
"""

import unicodedata
from typing import NamedTuple


class Record(NamedTuple):
    """One record. Good: `text` is set. Bad: `reason` says why it is set aside. `size` is its length in bytes.

    url: where a good record says that it comes from, "" where it does not say.
    """

    line: int
    size: int
    text: str | None = None
    reason: str | None = None
    url: str = ""


class Tally:
    """Lines that begin in the part read so far, blank ones too: later parts' line numbers are made absolute by it."""

    def __init__(self) -> None:
        self.lines = 0


def fault_of(text: str) -> str | None:
    """Why the text is no valid document, None where it is one (docs/interface.md, "A record is valid when")."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"lone surrogate: U+{ord(text[error.start]):04X} at character {error.start + 1}"
    if not any(_visible(character) for character in text):
        return "no visible character" if text else "empty text"
    return None


def too_long(limit: int) -> str:
    """The reason for a record longer than the limit."""
    return f"too long: over corpus.max_record_bytes ({limit})"


def record_of(line: int, size: int, text: str, url: str = "") -> Record:
    """A record for a text: good, or bad with its reason."""
    reason = fault_of(text)
    return Record(line, size, text, url=url) if reason is None else Record(line, size, reason=reason)


def _visible(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf")
