"""Rows of a string column as records, for Parquet and Arrow files: a record a row, bad ones with their reason."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipeline.corpus.records import Record, Tally, record_of, too_long

BATCH_BYTES = 4 << 20
"""About how much of a column is turned into Python's strings at a time."""
BATCH_ROWS = 4096
SHOWN_COLUMNS = 20


def batch_rows(rows: int, size: int) -> int:
    """Rows to take at a time where `rows` rows are `size` bytes."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))


FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What pyarrow raises over a file: UnicodeDecodeError for a column's name."""


def is_damage(error: BaseException) -> bool:
    """Whether one of FAULTS says that the file is no whole one of its kind, not that the system cannot read it."""
    return not isinstance(error, OSError) or error.errno is None


def without_column(field: str, names: Sequence[str], rows: int, tally: Tally) -> Iterator[Record]:
    """The records of rows that have no such column."""
    reason = f"no text field: no column {field!r} among {', '.join(names[:SHOWN_COLUMNS])}"
    for _ in range(rows):
        tally.lines += 1
        yield Record(tally.lines, 0, reason=reason)


def column_records(column: Any, urls: Any, field: str, limit: int, tally: Tally) -> Iterator[Record]:
    """The records of one pyarrow array of texts; urls: the array beside it that says where each is from, or None.

    Raises pyarrow.ArrowInvalid where the array is broken: Arrow files are not checked as they are read.
    """
    texts = _strings(column)
    if texts is None:
        for _ in range(len(column)):
            tally.lines += 1
            yield Record(tally.lines, 0, reason=f"text field not a string: {field!r} is {_value_type(column)}")
        return
    beside = None if urls is None else _strings(urls)
    places = [None] * len(texts) if beside is None else beside.to_pylist()
    for value, url in zip(texts.to_pylist(), places, strict=True):
        tally.lines += 1
        yield _row(value, tally.lines, field, limit, (url or b"").decode(errors="replace"))


def _value_type(column: Any) -> Any:
    return column.type.value_type if pa.types.is_dictionary(column.type) else column.type


def _strings(column: Any) -> Any:
    """The array as checked bytes: a row of invalid UTF-8 does not spoil the others. None where it has no strings."""
    if pa.types.is_dictionary(column.type):
        values = _strings(column.dictionary)
        column.indices.validate(full=True)
        return None if values is None else pa.DictionaryArray.from_arrays(column.indices, values).dictionary_decode()
    for strings, kind in (
        (pa.string(), pa.binary()),
        (pa.large_string(), pa.large_binary()),
        (pa.string_view(), pa.binary_view()),
    ):
        if column.type == strings:
            column = column.view(kind)
            column.validate(full=True)
            return column
    return None


def _row(value: bytes | None, line: int, field: str, limit: int, url: str) -> Record:
    if value is None:
        return Record(line, 0, reason=f"text field not a string: {field!r} is null")
    if len(value) > limit:
        return Record(line, len(value), reason=too_long(limit))
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return Record(line, len(value), reason=f"invalid UTF-8: byte {error.start + 1} of the text")
    return record_of(line, len(value), text, url, decoded=True)
