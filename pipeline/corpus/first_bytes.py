"""What a file is by its first bytes, where its name says that it is plain text: an archive, a table, UTF-16.

No valid UTF-8 text begins in any of these ways, or none without control characters. Price: a request for a few bytes
more for each later range of a file in a store.
"""

import re

from pipeline.corpus.opening import open_input

FIRST = 16
"""Bytes that are looked at."""
_BEGINNINGS = (
    ("a gzip file", rb"\x1f\x8b\x08"),
    ("a zstd file", rb"\x28\xb5\x2f\xfd"),
    ("an xz file", rb"\xfd7zXZ\x00"),
    ("a bzip2 file", rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    ("an lz4 file", rb"\x04\x22\x4d\x18"),
    ("a zip file", rb"PK(?:\x03\x04|\x05\x06)"),
    ("a 7z file", rb"7z\xbc\xaf\x27\x1c"),
    ("a Parquet file", rb"PAR1\x15"),  # the first field of a page's header, or of the footer where there is no page
    ("an Arrow file", rb"ARROW1\x00\x00"),
    ("UTF-16", rb"\xff\xfe[^\x00]\x00|\xfe\xff\x00[^\x00]|(?:[\x01-\x7f]\x00){4}|(?:\x00[\x01-\x7f]){4}"),
)
_ANY = [(name, re.compile(beginning, re.DOTALL)) for name, beginning in _BEGINNINGS]


def fault_by_first_bytes(first: bytes) -> str | None:
    """The reason for a file that cannot be plain text, None where it may be. first: FIRST bytes, or a whole shorter
    file."""
    found = next((name for name, beginning in _ANY if beginning.match(first)), None)
    return found and f"damaged text: it is {found} by its first bytes"


def fault_of_file(path: str) -> str | None:
    """The same, of a file or URL. Raises UserError where it cannot be read."""
    with open_input(path, 0, FIRST) as file:
        return fault_by_first_bytes(file.read(FIRST))
