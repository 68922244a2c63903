"""Which documents are worth comparing: those that meet in a band of their signatures (LSH).

Two passes. `bands/` has of each unit its band keys by bucket, `pairs-here/` the pairs that meet within the unit;
`pairs/` has of each bucket the pairs of different units, by the later one's unit. In a group of documents with one key
each is paired with the first and with the NEIGHBOURS before it, and a unit hands on only the first FORWARDED: linear in
the size of a group. Two copies meet in many bands, so one that a large group of boilerplate hides is found in others.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.duplicates.exact import same_documents
from pipeline.duplicates.plan import Job, bucket_of, concatenated, load_plan, read_keys, table_path
from pipeline.duplicates.signatures import band_keys, has_shingles, rows_per_band
from pipeline.duplicates.tables import Rows, read_part, write_table

KEY = np.dtype([("key", "<u8"), ("document", "<i8")])
PAIR = np.dtype([("later", "<i8"), ("earlier", "<i8"), ("bands", "<i8")])
"""Two documents, and in how many bands they met."""
NEIGHBOURS = 3
FORWARDED = 4
MOST_PAIRS = 1 << 21
"""Pairs that are gathered before equal ones are counted together."""


def map_bands(job: Job, unit: int) -> None:
    """The band keys of a unit's documents, without exact repeats."""
    plan, path = load_plan(job.out), table_path(job.out, "bands", unit)
    if path.exists() or job.config.near is None:
        return
    first, stop = plan.bounds(unit)
    signatures = read_keys(job, plan.documents, "near", first, stop)
    taken = has_shingles(signatures)
    taken[same_documents(job, unit)["document"] - first] = False
    documents = first + np.flatnonzero(taken)
    pairs, forwarded = Pairs(), [np.zeros(0, KEY)]
    for keys in band_keys(signatures[taken], rows_per_band(job.config.near)):
        order = np.argsort(keys, kind="stable")
        rows = _keys(keys[order], documents[order])
        pairs.add(neighbours(rows))
        if plan.units > 1:
            forwarded.append(rows[_place_in_group(rows) < FORWARDED])
    met = pairs.counted()
    write_table(table_path(job.out, "pairs-here", unit), met, np.zeros(len(met), np.int64), 1)
    del signatures, pairs, met
    together = np.concatenate(forwarded)
    forwarded.clear()
    buckets = plan.buckets["near"]
    write_table(path, together, bucket_of(together["key"], buckets), buckets)


def pair_bucket(job: Job, bucket: int) -> None:
    """Pairs of documents of different units that meet in the bucket."""
    plan, path = load_plan(job.out), table_path(job.out, "pairs", bucket)
    if path.exists():
        return
    found = [read_part(table_path(job.out, "bands", unit), bucket, KEY) for unit in range(plan.units)]
    rows = concatenated(found, KEY)
    found.clear()
    rows = rows[np.argsort(rows["key"], kind="stable")]  # within a key by document, as the units are
    pairs = Pairs()
    for met in neighbours(rows):
        pairs.add([met[met["later"] // plan.unit != met["earlier"] // plan.unit]])
    counted = pairs.counted()
    write_table(path, counted, counted["later"] // plan.unit, plan.units)


def met_pairs(job: Job, unit: int, most: int) -> Rows:
    """PAIR rows of the unit's documents and earlier ones: of each the `most` with which it shares most bands."""
    plan, pairs = load_plan(job.out), Pairs()
    pairs.add([read_part(table_path(job.out, "pairs-here", unit), 0, PAIR)])
    for bucket in range(plan.buckets["near"]):
        pairs.add([read_part(table_path(job.out, "pairs", bucket), unit, PAIR)])
    met = pairs.counted()
    met = met[np.lexsort((met["earlier"], -met["bands"], met["later"]))]
    return met[_place_in_group(met, "later") < most]


def neighbours(rows: Rows) -> Iterator[Rows]:
    """Pairs within the groups of one key: with the first, then with the one before, the second before ..."""
    place, documents = _place_in_group(rows), rows["document"]
    at = np.flatnonzero(place > 0)
    yield _pairs(documents[at], documents[at - place[at]])
    for distance in range(1, NEIGHBOURS + 1):
        at = np.flatnonzero(place > distance)
        yield _pairs(documents[at], documents[at - distance])


class Pairs:
    """Gathers pairs and counts equal ones together whenever they are many."""

    def __init__(self) -> None:
        self.found: list[Rows] = []
        self.size, self.limit = 0, MOST_PAIRS

    def add(self, found: Any) -> None:
        """More of them, as arrays of PAIR rows."""
        for pairs in found:
            self.found.append(pairs)
            self.size += len(pairs)
            if self.size > self.limit:
                self.counted()
                self.limit = max(MOST_PAIRS, 2 * self.size)

    def counted(self) -> Rows:
        """Each pair once, by its documents, with all its bands."""
        together = concatenated(self.found, PAIR)
        together = together[np.lexsort((together["earlier"], together["later"]))]
        begins = np.ones(len(together), bool)
        begins[1:] = np.diff(together["later"]).astype(bool) | np.diff(together["earlier"]).astype(bool)
        once = together[begins].copy()
        if len(once):
            once["bands"] = np.add.reduceat(together["bands"], np.flatnonzero(begins))
        self.found, self.size = [once], len(once)
        return once


def _place_in_group(rows: Rows, column: str = "key") -> Any:
    """How many rows before each have the same value; equal values stand together."""
    begins = np.ones(len(rows), bool)
    begins[1:] = rows[column][1:] != rows[column][:-1]
    places = np.arange(len(rows))
    return places - np.maximum.accumulate(np.where(begins, places, 0))


def _keys(keys: Any, documents: Any) -> Rows:
    rows = np.empty(len(keys), KEY)
    rows["key"], rows["document"] = keys, documents
    return rows


def _pairs(later: Any, earlier: Any) -> Rows:
    rows = np.ones(len(later), PAIR)
    rows["later"], rows["earlier"], rows["bands"] = later, earlier, 1
    return rows
