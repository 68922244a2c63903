"""A seeded sample of the corpus for the tokenizer, of bounded size, the same for any number of workers.

Documents are cut into units of a few thousand characters, so that a few long ones do not make up the sample; a unit's
key is a hash of (seed, text), and the units with the smallest keys are taken until tokenizer.sample_bytes are full.
Each task keeps its own smallest up to a few times its share, so disk and memory stay bounded. Price: repeated texts
share a key, and are taken or left together.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.arrays import save_array

UNIT_CHARACTERS = 1 << 14
OVERSAMPLING = 4
LEAST_QUOTA = 1 << 20
PRUNED = 100
"""Tasks whose tables are held at a time."""
TASK, OFFSET = 2, 3
"""Columns of a unit's place."""

Keys = np.ndarray[Any, np.dtype[np.uint64]]


def task_quota(sample_bytes: int, weight: int, total_weight: int) -> int:
    """Bytes of text that one task keeps at most."""
    share = OVERSAMPLING * sample_bytes * weight // max(total_weight, 1)
    return min(sample_bytes, max(LEAST_QUOTA, share))


def cut_units(text: str, most: int) -> Iterator[str]:
    """Pieces of at most `most` characters, cut after a line or a word where there is one in the second half."""
    start = 0
    while len(text) - start > most:
        end = max(text.rfind("\n", start + most // 2, start + most), text.rfind(" ", start + most // 2, start + most))
        end = end + 1 if end >= 0 else start + most
        yield text[start:end]
        start = end
    yield text[start:]


class Reservoir:
    """The units with the smallest keys of one task, up to `quota` bytes."""

    def __init__(self, seed: int, quota: int, sample_bytes: int) -> None:
        self.salt = seed.to_bytes(8, "little")
        self.quota = quota
        self.unit = max(64, min(UNIT_CHARACTERS, sample_bytes // 64))
        self.size = 0
        self._largest_first: list[tuple[int, int]] = []
        self._units: dict[int, tuple[int, bytes, int]] = {}
        self._seen = 0

    def add(self, text: str, document: int) -> None:
        """Offers a document; `document`: its number in the task."""
        for unit in cut_units(text, self.unit):
            data = unit.encode()
            key = int.from_bytes(hashlib.blake2b(data, digest_size=8, key=self.salt).digest(), "little")
            if self.size + len(data) > self.quota and self._largest_first and key >= -self._largest_first[0][0]:
                continue
            self._seen += 1
            self._units[self._seen] = (key, data, document)
            heapq.heappush(self._largest_first, (-key, -self._seen))
            self.size += len(data)
            while self.size > self.quota:
                _, number = heapq.heappop(self._largest_first)
                self.size -= len(self._units.pop(-number)[1])

    def save(self, path: Path) -> None:
        """Writes the units one after the other, and path.npy: (units, 3) uint64 of key, bytes and document."""
        rows = [(key, len(data), document) for key, data, document in self._units.values()]
        with open(path, "wb") as file:
            file.writelines(data for _, data, _ in self._units.values())
        save_array(_keys_path(path), np.array(rows, np.uint64).reshape(-1, 3))


def chosen_units(
    paths: Sequence[Path], sample_bytes: int, dropped: Callable[[int], Keys] | None = None
) -> Iterator[str]:
    """Units of the whole sample in reading order, at most `sample_bytes` in all; paths: the tasks' files, in order.

    dropped: numbers of the documents of a task that are not kept after all; their units are passed over. Price: memory
    for the places of the units of one sample and of PRUNED tasks, 32 bytes each, whatever the number of tasks.
    """
    chosen: Keys = np.zeros((0, 4), np.uint64)
    for first in range(0, len(paths), PRUNED):
        more = [_offered(paths[task], task, dropped) for task in range(first, min(first + PRUNED, len(paths)))]
        chosen = _smallest(np.concatenate([chosen, *more]), sample_bytes)
    chosen = chosen[np.lexsort((chosen[:, OFFSET], chosen[:, TASK]))]
    for task, rows in groupby(chosen, key=lambda row: int(row[TASK])):
        with paths[task].open("rb") as file:
            for _, size, _, offset in rows:
                file.seek(int(offset))
                yield file.read(int(size)).decode()


def _offered(path: Path, task: int, dropped: Callable[[int], Keys] | None) -> Keys:
    """(units, 4) of key, bytes, task, and where in its file a unit begins, of the units of documents that are kept."""
    with _keys_path(path).open("rb") as file:
        table = np.load(file, allow_pickle=False)
    ends = np.cumsum(table[:, 1])
    rows = np.column_stack([table[:, 0], table[:, 1], np.full(len(table), task, np.uint64), ends - table[:, 1]])
    return rows if dropped is None else rows[~np.isin(table[:, 2].astype(np.int64), dropped(task))]


def _smallest(rows: Keys, sample_bytes: int) -> Keys:
    """The rows with the smallest keys that fill `sample_bytes`: what does not fit here does not fit in the whole."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return rows[np.cumsum(rows[:, 1]) <= sample_bytes]


def _keys_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.npy")
