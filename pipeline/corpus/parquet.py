"""Parquet: a record a row of one string column. A task owns whole row groups; rows are read a few megabytes at a time.

A compressed file (.parquet.gz and so on) is unpacked to a temporary file first: its index stands at its end.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq

from pipeline.base.files import told_plainly
from pipeline.corpus.columns import FAULTS, batch_rows, column_records, is_damage, without_column
from pipeline.corpus.opening import open_input
from pipeline.corpus.records import Record, Tally
from pipeline.corpus.streams import Damage, read_chunks

BUFFER = 1 << 20


def row_group_bytes(path: str) -> list[int] | None:
    """Uncompressed bytes of each row group by the file's footer, None where that cannot be read."""
    with open_input(path) as raw:
        try:
            with pq.ParquetFile(raw) as file:
                return [file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)]
        except FAULTS as error:
            if not is_damage(error):
                raise
            return None


def read_parquet(
    path: str, packing: str, start: int, stop: int | None, field: str, limit: int, tally: Tally, url_field: str = ""
) -> Iterator[Record]:
    """Records of the row groups [start, stop); stop None: to the last. A damaged file ends in one bad record."""
    try:
        with unpacked(path, packing) as raw:
            yield from _read_groups(raw, (start, stop), (field, url_field), limit, tally)
    except Damage as damage:
        tally.lines += 1
        yield Record(tally.lines, 0, reason=f"damaged Parquet: {damage}")


@contextmanager
def unpacked(path: str, packing: str) -> Iterator[IO[bytes]]:
    """The file, open for reading at any place; a packed one is unpacked to a temporary file first, or raises Damage."""
    if not packing:
        with open_input(path) as raw:
            yield raw
        return
    folder = Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder) as aside:
        with told_plainly(folder):
            for chunk in read_chunks(path, packing):
                aside.write(chunk)
            aside.seek(0)
        yield aside


def _read_groups(
    raw: IO[bytes], groups: tuple[int, int | None], fields: tuple[str, str], limit: int, tally: Tally
) -> Iterator[Record]:
    try:
        with pq.ParquetFile(raw, buffer_size=BUFFER, pre_buffer=False) as file:
            start, stop = groups
            for group in range(start, file.metadata.num_row_groups if stop is None else stop):
                yield from _read_group(file, group, fields, limit, tally)
    except FAULTS as error:
        if not is_damage(error):
            raise
        raise Damage(" ".join(str(error).split())[:200]) from None


def _read_group(
    file: pq.ParquetFile, group: int, fields: tuple[str, str], limit: int, tally: Tally
) -> Iterator[Record]:
    about = file.metadata.row_group(group)
    field, url_field = fields
    names = file.schema_arrow.names
    if field not in names:
        yield from without_column(field, names, about.num_rows, tally)
        return
    columns = [field, *(name for name in (url_field,) if name in names and name != field)]
    rows = batch_rows(about.num_rows, about.total_byte_size)
    for batch in file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False):
        found = batch.schema.names
        urls = batch.column(found.index(url_field)) if url_field in columns else None
        yield from column_records(batch.column(found.index(field)), urls, field, limit, tally)
