"""Arrow: a record a row of one string column, in the stream format (Hugging Face's save_to_disk) or the file format.

A task owns whole record batches. A file of this machine is mapped into memory, so that batches before a task's own cost
nothing unless they are compressed. Price: a file that is cut off while it is mapped kills the process; a packed file is
unpacked to a temporary one, a file of a store is read through, and of both a record batch is held whole.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pyarrow as pa

from pipeline.base.storage import is_url
from pipeline.corpus.columns import FAULTS, batch_rows, column_records, is_damage, without_column
from pipeline.corpus.parquet import unpacked
from pipeline.corpus.records import Record, Tally
from pipeline.corpus.streams import Damage

FILE_MAGIC = b"ARROW1"
"""How the file format begins; the stream format begins with the length of its schema."""
FILE_HEADER = 8
"""Bytes before the stream that the file format holds."""


def record_batch_bytes(path: str) -> list[int] | None:
    """About how many bytes each record batch of a local file has, None where that cannot be told."""
    try:
        with pa.memory_map(path) as source:
            if _has_file_format(source):
                batches = pa.ipc.open_file(source).num_record_batches
                return [source.size() // max(batches, 1)] * batches
            messages = pa.ipc.MessageReader.open_stream(source)
            return [message.body.size for message in messages if message.type == "record batch"]
    except FAULTS:
        return None


def read_arrow(
    path: str, packing: str, start: int, stop: int | None, field: str, limit: int, tally: Tally, url_field: str = ""
) -> Iterator[Record]:
    """Records of the record batches [start, stop); stop None: to the last. A damaged file ends in one bad record."""
    try:
        with _opened(path, packing) as source:
            yield from _read_batches(source, (start, stop), (field, url_field), limit, tally)
    except Damage as damage:
        tally.lines += 1
        yield Record(tally.lines, 0, reason=f"damaged Arrow: {damage}")


@contextmanager
def _opened(path: str, packing: str) -> Iterator[Any]:
    with unpacked(path, packing) as raw:
        if packing or is_url(path):
            yield pa.PythonFile(raw, mode="r")
        else:
            with pa.memory_map(path) as source:
                yield source


def _has_file_format(source: Any) -> bool:
    magic = source.read(len(FILE_MAGIC))
    source.seek(0)
    return bool(magic == FILE_MAGIC)


def _read_batches(
    source: Any, batches: tuple[int, int | None], fields: tuple[str, str], limit: int, tally: Tally
) -> Iterator[Record]:
    field, url_field = fields
    try:
        for batch in _batches(source, batches, fields):
            names = batch.schema.names
            if field not in names:
                yield from without_column(field, names, batch.num_rows, tally)
                continue
            texts = batch.column(names.index(field))  # by place: a name may occur twice
            urls = batch.column(names.index(url_field)) if url_field in names else None
            rows = batch_rows(len(texts), texts.nbytes)
            for first in range(0, len(texts), rows):
                beside = None if urls is None else urls.slice(first, rows)
                yield from column_records(texts.slice(first, rows), beside, field, limit, tally)
    except FAULTS as error:
        if not is_damage(error):
            raise
        raise Damage(" ".join(str(error).split())[:200]) from None


def _batches(source: Any, batches: tuple[int, int | None], fields: tuple[str, str]) -> Iterator[Any]:
    start, stop = batches
    if not _has_file_format(source):
        yield from islice(_reader(pa.ipc.open_stream, source, 0, fields), start, stop)
        return
    try:
        reader = _reader(pa.ipc.open_file, source, 0, fields)
    except pa.ArrowInvalid:  # its index, which stands at the end, is lost; what comes before is a stream
        yield from _reader(pa.ipc.open_stream, source, FILE_HEADER, fields)
        raise
    for number in range(start, reader.num_record_batches if stop is None else stop):
        yield reader.get_batch(number)


def _reader(open_source: Callable[..., Any], source: Any, offset: int, fields: tuple[str, str]) -> Any:
    """A reader that decompresses the wanted columns only; all where there is no text column."""
    source.seek(offset)
    names = open_source(source).schema.names
    wanted = [names.index(name) for name in dict.fromkeys(fields) if name in names]
    options = pa.ipc.IpcReadOptions(included_fields=wanted if fields[0] in names else [], use_threads=False)
    source.seek(offset)
    return open_source(source, options=options)
