"""Files of rows in numbered parts: what one unit of work hands to each of the next pass's units.

A file is a page of notes (JSON), the byte at which each part begins, and the rows, part after part. A reader takes one
part with two range reads, from a disk or a store, so a shuffle of m writers and n readers has m files, not m x n.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from pipeline.base.errors import UserError
from pipeline.base.storage import read_range
from pipeline.duplicates.scratch import whole_file

Rows = np.ndarray[Any, Any]
Places = np.ndarray[Any, np.dtype[np.int64]]

NOTES_BYTES = 4096
CHUNK_BYTES = 16 << 20
CHUNK_ROWS = 1 << 18


def write_table(path: Path, rows: Rows, parts: Any, count: int, notes: dict[str, Any] | None = None) -> None:
    """Writes rows by the part that each belongs to (0 .. count - 1), within a part in their order; whole or not."""
    parts = np.asarray(parts).astype(np.uint16 if count <= 1 << 16 else np.int64)  # 16 bits are sorted by radix
    order = np.argsort(parts, kind="stable")
    with Spool(rows.dtype) as spool:
        for start in range(0, len(order), CHUNK_ROWS):
            spool.add(rows[order[start : start + CHUNK_ROWS]])
        spool.save(path, np.bincount(parts, minlength=count), notes)


class Spool:
    """Rows that come bit by bit, part after part, and are kept in memory only while they are few."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.file = tempfile.SpooledTemporaryFile(max_size=CHUNK_BYTES)  # noqa: SIM115

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    def add(self, rows: Rows) -> None:
        """Appends rows."""
        self.file.write(np.ascontiguousarray(rows, self.dtype.base).view(np.uint8).data)

    def save(self, path: Path, counts: Any, notes: dict[str, Any] | None = None) -> None:
        """Writes the file of a table, whole or not at all. counts (parts,): how many of the rows are each part's."""
        page = json.dumps(notes or {}).encode()
        if len(page) > NOTES_BYTES:
            raise ValueError(f"notes of {len(page)} bytes, more than {NOTES_BYTES}")
        first = NOTES_BYTES + 8 * (len(counts) + 1)
        starts = first + self.dtype.itemsize * np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        with whole_file(path) as aside, aside.open("wb") as file:
            file.write(page.ljust(NOTES_BYTES))
            file.write(starts.astype("<i8").tobytes())
            self._copy_to(file)

    def save_rows(self, path: Path) -> None:
        """Writes the rows alone."""
        with whole_file(path) as aside, aside.open("wb") as file:
            self._copy_to(file)

    def _copy_to(self, file: IO[bytes]) -> None:
        self.file.seek(0)
        shutil.copyfileobj(self.file, file, CHUNK_BYTES)


def read_notes(path: Path) -> dict[str, Any]:
    """What the writer noted."""
    notes: dict[str, Any] = json.loads(_read(path, 0, NOTES_BYTES))
    return notes


def read_part(path: Path, part: int, dtype: Any) -> Rows:
    """The rows of one part."""
    start, stop = _bounds(path, part)
    return np.frombuffer(_read(path, start, stop), dtype)


def iterate_part(path: Path, part: int, dtype: Any) -> Iterator[Rows]:
    """The rows of one part that may be larger than the memory, some at a time."""
    start, stop = _bounds(path, part)
    step = max(1, CHUNK_BYTES // np.dtype(dtype).itemsize) * np.dtype(dtype).itemsize
    for begin in range(start, stop, step):
        yield np.frombuffer(_read(path, begin, min(stop, begin + step)), dtype)


def _bounds(path: Path, part: int) -> tuple[int, int]:
    place = NOTES_BYTES + 8 * part
    start, stop = np.frombuffer(_read(path, place, place + 16), "<i8").tolist()
    return start, stop


def _read(path: Path, start: int, stop: int) -> bytes:
    data = read_range(path, start, stop)
    if len(data) != stop - start:
        raise UserError(f"{path} is shorter than it was written. Delete the data set's working folder, start again.")
    return data
