"""Parquet: a record a row of one string column. A task owns whole row groups; rows are read a few megabytes at a time.

A compressed file (.parquet.gz, .parquet.zst) is unpacked to a temporary file first: its index stands at its end.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base.errors import UserError
from pipeline.base.files import told_plainly
from pipeline.corpus.records import Record, Tally, record_of, too_long
from pipeline.corpus.streams import Damage, read_chunks

BATCH_BYTES = 4 << 20
BATCH_ROWS = 4096
BUFFER = 1 << 20


def row_group_bytes(path: str) -> list[int] | None:
    """Uncompressed bytes of each row group by the file's footer, None where that cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            return [file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)]
    except (pa.ArrowException, OSError):
        return None


def read_parquet(
    path: str, packing: str, start: int, stop: int | None, field: str, limit: int, tally: Tally
) -> Iterator[Record]:
    """Records of the row groups [start, stop); stop None: to the last. A damaged file ends in one bad record."""
    try:
        with _opened(path, packing) as raw, pq.ParquetFile(raw, buffer_size=BUFFER, pre_buffer=False) as file:
            groups = range(start, file.metadata.num_row_groups if stop is None else stop)
            for group in groups:
                yield from _read_group(file, group, field, limit, tally)
    except (Damage, pa.ArrowException, OSError) as error:
        tally.lines += 1
        yield Record(tally.lines, 0, reason=f"damaged Parquet: {' '.join(str(error).split())[:200]}")


@contextmanager
def _opened(path: str, packing: str) -> Iterator[IO[bytes]]:
    if packing:
        folder = Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=folder) as unpacked:
            with told_plainly(folder):
                for chunk in read_chunks(path, packing):
                    unpacked.write(chunk)
                unpacked.seek(0)
            yield unpacked
        return
    try:
        raw = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Mend it and start the same command again.") from error
    with raw:
        yield raw


def _read_group(file: pq.ParquetFile, group: int, field: str, limit: int, tally: Tally) -> Iterator[Record]:
    about = file.metadata.row_group(group)
    if field not in file.schema_arrow.names:
        reason = f"no text field: no column {field!r} among {', '.join(file.schema_arrow.names[:20])}"
        for _ in range(about.num_rows):
            tally.lines += 1
            yield Record(tally.lines, 0, reason=reason)
        return
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)))
    for batch in file.iter_batches(rows, row_groups=[group], columns=[field], use_threads=False):
        column = batch.column(0)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            for _ in range(len(column)):
                tally.lines += 1
                yield Record(tally.lines, 0, reason=f"text field not a string: {field!r} is {kind}")
            continue
        if column.type != kind:
            column = column.dictionary_decode()
        for value in column.cast(pa.large_binary()).to_pylist():
            tally.lines += 1
            yield _row(value, tally.lines, field, limit)


def _row(value: Any, line: int, field: str, limit: int) -> Record:
    if value is None:
        return Record(line, 0, reason=f"text field not a string: {field!r} is null")
    if len(value) > limit:
        return Record(line, len(value), reason=too_long(limit))
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return Record(line, len(value), reason=f"invalid UTF-8: byte {error.start + 1} of the text")
    return record_of(line, len(value), text)
