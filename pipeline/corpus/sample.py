"""A seeded sample of the corpus for the tokenizer, of bounded size, the same for any number of workers.

Documents are cut into units of a few thousand characters, so that a few long ones do not make up the sample; a unit's
key is a hash of (seed, text), and the units with the smallest keys are taken until tokenizer.sample_bytes are full.
Each task keeps its own smallest up to a few times its share, so disk and memory stay bounded. Price: repeated texts
share a key, and are taken or left together.
"""

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.files import complete_file

UNIT_CHARACTERS = 1 << 14
OVERSAMPLING = 4
LEAST_QUOTA = 1 << 20

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
        self._units: dict[int, tuple[int, bytes]] = {}
        self._seen = 0

    def add(self, text: str) -> None:
        """Offers a document."""
        for unit in cut_units(text, self.unit):
            data = unit.encode()
            key = int.from_bytes(hashlib.blake2b(data, digest_size=8, key=self.salt).digest(), "little")
            if self.size + len(data) > self.quota and self._largest_first and key >= -self._largest_first[0][0]:
                continue
            self._seen += 1
            self._units[self._seen] = (key, data)
            heapq.heappush(self._largest_first, (-key, -self._seen))
            self.size += len(data)
            while self.size > self.quota:
                _, number = heapq.heappop(self._largest_first)
                self.size -= len(self._units.pop(-number)[1])

    def save(self, path: Path) -> None:
        """Writes the units one after the other, and path.npy: (units, 2) uint64 of key and bytes."""
        keys = np.array([(key, len(data)) for key, data in self._units.values()], np.uint64).reshape(-1, 2)
        with complete_file(path) as aside, open(aside, "wb") as file:
            file.writelines(data for _, data in self._units.values())
        with complete_file(_keys_path(path)) as aside, open(aside, "wb") as file:
            np.save(file, keys, allow_pickle=False)


def chosen_units(paths: Sequence[Path], sample_bytes: int) -> Iterator[str]:
    """Units of the whole sample in reading order, at most `sample_bytes` in all; paths: the tasks' files, in order."""
    keys = [np.load(_keys_path(path), allow_pickle=False) for path in paths]
    together: Keys = np.concatenate(keys) if keys else np.zeros((0, 2), np.uint64)
    order = np.argsort(together[:, 0], kind="stable")
    fits = np.cumsum(together[order, 1].astype(np.int64)) <= sample_bytes
    chosen = np.zeros(len(together), bool)
    chosen[order[fits]] = True
    first = 0
    for path, task_keys in zip(paths, keys, strict=True):
        with open(path, "rb") as file:
            for take, (_, size) in zip(chosen[first : first + len(task_keys)], task_keys, strict=True):
                data = file.read(int(size))
                if take:
                    yield data.decode()
        first += len(task_keys)


def _keys_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.npy")
