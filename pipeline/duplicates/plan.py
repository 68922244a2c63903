"""How the work is cut: documents are numbered through all tasks, and a unit of work is a range of those numbers.

Units and buckets follow from the numbers of documents and paragraphs alone, never from the workers. An index of an
earlier data set counts as tasks before the first one, so its documents come first. Price: what one worker holds grows
with the data once there are MOST_UNITS units (docs/deduplication.md has the formula).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.arrays import npy_bytes
from pipeline.base.duplicates_sections import DeduplicateConfig
from pipeline.base.files import read_json
from pipeline.base.storage import Facts, facts_of
from pipeline.base.workers import Workers
from pipeline.duplicates.keys import read_counts, read_rows, row_type
from pipeline.duplicates.scratch import write_whole, write_whole_json
from pipeline.duplicates.signatures import rows_per_band
from pipeline.duplicates.tables import Places, Rows, read_part, write_table

UNIT_DOCUMENTS = 1 << 16
UNIT_PARAGRAPHS = 1 << 20
BUCKET_KEYS = 1 << 22
MOST_UNITS = 2048
GROUP = 256
"""Tasks whose counts one worker reads."""
PLAN_FILES = "plan.json", "starts.npy"
COUNTS = np.dtype([("documents", "<i8"), ("paragraphs", "<i8")])


@dataclass(frozen=True)
class Job:
    """What every pass is given: small, whatever the number of tasks."""

    config: DeduplicateConfig
    folders: Callable[[int], Path]
    """The folder with the keys of a task."""
    tasks: int
    out: Path
    indexes: tuple[tuple[Path, int], ...] = ()
    """Indexes of earlier data sets, and how many parts each has."""

    @property
    def parts(self) -> int:
        """Parts of all indexes together: sources 0 .. parts - 1, the tasks follow."""
        return sum(parts for _, parts in self.indexes)

    def folder(self, source: int) -> Path:
        """The keys of a source: a part of an index, or a task."""
        for index, parts in self.indexes:
            if source < parts:
                return index / part_name(source)
            source -= parts
        return self.folders(source)


@dataclass(frozen=True)
class Plan:
    """Where each source begins, and how large units are. Buckets: ranges of keys, each sorted by one worker."""

    documents: Places
    """(sources + 1,)"""
    paragraphs: Places
    """(sources + 1,)"""
    parts: int
    """Sources that are parts of an index."""
    unit: int
    """Documents a unit."""
    paragraph_unit: int
    """Long paragraphs a unit."""
    buckets: dict[str, int]
    """How many there are for documents, near and paragraphs."""
    results: tuple[str, ...]
    """Those of documents and cuts that are looked for."""

    @property
    def units(self) -> int:
        """Units of documents."""
        return -(-int(self.documents[-1]) // self.unit)

    @property
    def paragraph_units(self) -> int:
        """Units of paragraphs."""
        return -(-int(self.paragraphs[-1]) // self.paragraph_unit)

    @property
    def known(self) -> int:
        """Documents of the indexes: the first ones, never dropped."""
        return int(self.documents[self.parts])

    @property
    def is_small(self) -> bool:
        """Whether every pass has one unit or bucket, so that workers would only wait for each other."""
        return max(self.units, self.paragraph_units, *self.buckets.values()) <= 1

    def bounds(self, unit: int) -> tuple[int, int]:
        """First document of a unit, and the one after its last."""
        return self.unit * unit, min(self.unit * (unit + 1), int(self.documents[-1]))

    def place(self, document: int) -> tuple[int, int]:
        """(task, document in the task); (-1, number among all of them) for one of an index."""
        if document < self.known:
            return -1, document
        source = int(np.searchsorted(self.documents, document, "right")) - 1
        return source - self.parts, document - int(self.documents[source])


def part_name(part: int) -> str:
    """Folder of a part of an index."""
    return f"part-{part:06d}"


def table_path(out: Path, name: str, unit: int) -> Path:
    """The file that a unit of a pass leaves."""
    return out / name / f"{unit:06d}.table"


def pieces(starts: Places, first: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(source, from, to) of the sources over which the numbers [first, stop) go; from and to count in the source."""
    source = int(np.searchsorted(starts, first, "right")) - 1
    while first < stop:
        end = min(stop, int(starts[source + 1]))
        if end > first:
            yield source, first - int(starts[source]), end - int(starts[source])
        first, source = end, source + 1


def read_keys(job: Job, starts: Places, kind: str, first: int, stop: int) -> Rows:
    """Rows [first, stop) of one kind over all sources."""
    parts = pieces(starts, first, stop)
    found = [read_rows(job.folder(source), kind, job.config, start, end) for source, start, end in parts]
    return concatenated(found, row_type(kind, job.config))


def make_plan(job: Job, workers: Workers) -> Plan:
    """Reads how many keys each source has, and keeps the plan in job.out."""
    path, starts_path = (job.out / name for name in PLAN_FILES)
    if not path.exists():
        sources = job.parts + job.tasks
        groups = -(-sources // GROUP)
        for _ in workers.map_unordered(count_group, ((job, group) for group in range(groups))):
            pass
        counts = [read_part(table_path(job.out, "counts", group), 0, COUNTS) for group in range(groups)]
        together = np.concatenate([np.zeros(1, COUNTS), *counts])
        starts = np.stack([np.cumsum(together["documents"]), np.cumsum(together["paragraphs"])])
        write_whole(starts_path, npy_bytes(starts))
        write_whole_json(path, _sizes(job, int(starts[0, -1]), int(starts[1, -1])))
    return load_plan(job.out)


def load_plan(out: Path) -> Plan:
    """The plan that is kept in `out`; read once in a process as long as it is the same."""
    return _load_plan(out, *(facts_of(out / name) for name in PLAN_FILES))


@lru_cache(maxsize=1)
def _load_plan(out: Path, *facts: Facts) -> Plan:
    """facts: of the plan's files, by which another run's plan in this place is told from the one that was read."""
    sizes = read_json(out / "plan.json")
    with (out / "starts.npy").open("rb") as file:
        starts = np.load(file, allow_pickle=False)
    starts.flags.writeable = False  # it is shared
    documents, paragraphs = starts
    return Plan(documents, paragraphs, **{**sizes, "results": tuple(sizes["results"])})


def count_group(job: Job, group: int) -> None:
    """Gathers the counts of up to GROUP sources."""
    path = table_path(job.out, "counts", group)
    if not path.exists():
        sources = range(GROUP * group, min(GROUP * (group + 1), job.parts + job.tasks))
        counts = np.array([read_counts(job.folder(source)) for source in sources], np.int64).view(COUNTS)[:, 0]
        write_table(path, counts, np.zeros(len(counts), np.int64), 1)


def _sizes(job: Job, documents: int, paragraphs: int) -> dict[str, Any]:
    near = job.config.near
    bands = near.permutations // rows_per_band(near) if near else 0
    wanted = {"documents": job.config.documents or near is not None, "cuts": job.config.paragraphs}
    return {
        "parts": job.parts,
        "unit": _unit(documents, UNIT_DOCUMENTS),
        "paragraph_unit": _unit(paragraphs, UNIT_PARAGRAPHS),
        "buckets": {
            "documents": _buckets(documents),
            "near": _buckets(documents * bands),
            "paragraphs": _buckets(paragraphs),
        },
        "results": [name for name, on in wanted.items() if on],
    }


def _unit(total: int, least: int) -> int:
    """The least power of two from `least` on with which there are at most MOST_UNITS units."""
    while -(-total // least) > MOST_UNITS:
        least *= 2
    return least


def _buckets(keys: int) -> int:
    return min(MOST_UNITS, -(-keys // BUCKET_KEYS)) or 1


def bucket_of(keys: Any, buckets: int) -> Any:
    """The bucket of each key (uint64): equal ranges, by a key's upper 32 bits."""
    return (((keys >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)).astype(np.int64)


def concatenated(found: Sequence[Rows], dtype: Any) -> Rows:
    """All rows together, also of none."""
    return np.concatenate([np.zeros(0, dtype), *found])
