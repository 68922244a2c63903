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
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"lone surrogate: U+{ord(text[error.start]):04X} at character {error.start + 1}"
    return fault_of_decoded(text)


def fault_of_decoded(text: str) -> str | None:
    """As `fault_of`, for a text out of a UTF-8 decoder: it holds no lone surrogate."""
    for character in text:
        if not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf"):
            return None
    return "no visible character" if text else "empty text"


def too_long(limit: int) -> str:
    """The reason for a record longer than the limit."""
    return f"too long: over corpus.max_record_bytes ({limit})"


def record_of(line: int, size: int, text: str, url: str = "", *, decoded: bool = False) -> Record:
    """A record for a text: good, or bad with its reason. decoded: whether it comes out of a UTF-8 decoder."""
    reason = fault_of_decoded(text) if decoded else fault_of(text)
    return Record(line, size, text, None, url) if reason is None else Record(line, size, None, reason)
