"""Documents with the same hash: of each group the first in input order stays.

Two passes. `same/` has of each unit its distinct hashes by bucket, `same-here/` its own repeats; `same-found/` has of
each bucket the documents that an earlier unit had already, by their unit.
"""

from typing import Any

import numpy as np

from pipeline.duplicates.equal import group_equal, sums
from pipeline.duplicates.plan import Job, bucket_of, concatenated, load_plan, read_keys, table_path
from pipeline.duplicates.tables import Rows, read_part, write_table

RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("document", "<i8"), ("copies", "<i8")])
FOUND = np.dtype([("document", "<i8"), ("kept", "<i8")])


def map_documents(job: Job, unit: int) -> None:
    """Groups a unit's own documents, and hands one of each group to its hash's bucket."""
    plan, path = load_plan(job.out), table_path(job.out, "same", unit)
    if path.exists():
        return
    first, stop = plan.bounds(unit)
    keys = read_keys(job, plan.documents, "documents", first, stop)
    groups = group_equal(keys["high"], keys["low"])
    repeats, kept = groups.repeats
    write_table(
        table_path(job.out, "same-here", unit), found(first + repeats, first + kept), np.zeros(len(repeats), int), 1
    )
    firsts = groups.firsts
    records = np.empty(len(firsts), RECORD)
    records["high"], records["low"] = keys["high"][firsts], keys["low"][firsts]
    records["document"] = first + firsts
    records["copies"] = sums(groups, np.ones(len(keys), np.int64))
    buckets = plan.buckets["documents"]
    write_table(path, records, bucket_of(records["high"], buckets), buckets)


def group_bucket(job: Job, bucket: int) -> None:
    """Groups the documents of all units whose hashes are the bucket's. Notes: groups of two or more, the largest."""
    plan, path = load_plan(job.out), table_path(job.out, "same-found", bucket)
    if path.exists():
        return
    parts = [read_part(table_path(job.out, "same", unit), bucket, RECORD) for unit in range(plan.units)]
    records = concatenated(parts, RECORD)
    groups = group_equal(records["high"], records["low"])
    repeats, kept = groups.repeats
    rows = found(records["document"][repeats], records["document"][kept])
    copies = sums(groups, records["copies"])
    notes = {"groups": int((copies > 1).sum()), "largest": int(copies.max(initial=0))}
    write_table(path, rows, rows["document"] // plan.unit, plan.units, notes)


def same_documents(job: Job, unit: int) -> Rows:
    """The unit's documents that repeat an earlier one, and the first of each group (FOUND), by document."""
    plan = load_plan(job.out)
    if not job.config.documents:
        return np.zeros(0, FOUND)
    here = read_part(table_path(job.out, "same-here", unit), 0, FOUND).copy()
    buckets = range(plan.buckets["documents"])
    there = concatenated([read_part(table_path(job.out, "same-found", one), unit, FOUND) for one in buckets], FOUND)
    there = there[np.argsort(there["document"])]
    if len(there) and len(here):  # the first of this unit may itself repeat one of another
        place = np.minimum(np.searchsorted(there["document"], here["kept"]), len(there) - 1)
        here["kept"] = np.where(there["document"][place] == here["kept"], there["kept"][place], here["kept"])
    both = np.concatenate([here, there])
    return both[np.argsort(both["document"])]


def found(documents: Any, kept: Any) -> Rows:
    """FOUND rows of two columns."""
    rows = np.empty(len(documents), FOUND)
    rows["document"], rows["kept"] = documents, kept
    return rows
