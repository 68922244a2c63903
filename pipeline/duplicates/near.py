"""Documents that are nearly the same: pairs that met are compared by their signatures, and groups joined from them.

Three passes. `asked/` has of each unit its pairs with the later document's signature, by the earlier one's unit;
`similar/` has of each unit the pairs that are similar enough; `groups/` has each document and the first of its group.
A group is a connected component: its documents are joined by similar pairs, not all similar to each other. The first
document in input order stays. Price: one process holds 12 bytes a document while it joins them.
"""

from typing import Any

import numpy as np

from pipeline.base.workers import Workers
from pipeline.duplicates.bands import map_bands, met_pairs, pair_bucket
from pipeline.duplicates.exact import FOUND, found
from pipeline.duplicates.passes import discard, run_pass
from pipeline.duplicates.plan import Job, Plan, load_plan, read_keys, table_path
from pipeline.duplicates.shingles import Places
from pipeline.duplicates.signatures import estimated_similarity
from pipeline.duplicates.tables import Rows, Spool, iterate_part, read_notes, read_part

MOST_COMPARED = 8
"""Earlier documents with which one document's signature is compared, those first that it met most often."""
SIMILAR = np.dtype([("later", "<i8"), ("earlier", "<i8")])
ASKED_ROWS = 1 << 15
"""Pairs that are handled together with their signatures."""


def find_near(job: Job, workers: Workers) -> None:
    """All passes over the signatures."""
    plan = load_plan(job.out)
    buckets = plan.buckets["near"]
    if not (job.out / "pairs.done").exists():
        run_pass(job, workers, "bands", map_bands, plan.units)
        run_pass(job, workers, "pairs", pair_bucket, buckets)
    discard(job, "bands")
    if not (job.out / "similar.done").exists():
        run_pass(job, workers, "asked", ask_unit, plan.units)
        run_pass(job, workers, "similar", compare_unit, plan.units)
    discard(job, "pairs", "pairs-here", "asked")
    run_pass(job, workers, "groups", join_groups, 1)
    discard(job, "similar")


def ask_unit(job: Job, unit: int) -> None:
    """The unit's pairs with the signatures of their later documents, for the units of the earlier ones."""
    plan, path = load_plan(job.out), table_path(job.out, "asked", unit)
    if path.exists():
        return
    pairs = met_pairs(job, unit, MOST_COMPARED)
    first, stop = plan.bounds(unit)
    signatures = read_keys(job, plan.documents, "near", first, stop)
    order = np.argsort(pairs["earlier"] // plan.unit, kind="stable")
    with Spool(_asked_type(job)) as spool:
        for some in np.array_split(order, 1 + len(order) // ASKED_ROWS):
            rows = np.empty(len(some), spool.dtype)
            rows["later"], rows["earlier"] = pairs["later"][some], pairs["earlier"][some]
            rows["signature"] = signatures[rows["later"] - first]
            spool.add(rows)
        spool.save(path, np.bincount(pairs["earlier"] // plan.unit, minlength=plan.units))


def compare_unit(job: Job, unit: int) -> None:
    """Of the pairs whose earlier document is the unit's, those of at least the similarity of the config."""
    plan, path = load_plan(job.out), table_path(job.out, "similar", unit)
    if path.exists() or job.config.near is None:
        return
    first, stop = plan.bounds(unit)
    signatures = read_keys(job, plan.documents, "near", first, stop)
    count = 0
    with Spool(SIMILAR) as spool:
        for later in range(unit, plan.units):
            for asked in iterate_part(table_path(job.out, "asked", later), unit, _asked_type(job)):
                similarity = estimated_similarity(asked["signature"], signatures[asked["earlier"] - first])
                enough = asked[similarity >= job.config.near.similarity]
                spool.add(_similar(enough))
                count += len(enough)
        spool.save(path, np.array([count]))


def join_groups(job: Job, _: int) -> None:
    """Connected components of all similar pairs. Notes: groups of two or more, and the largest."""
    plan, path = load_plan(job.out), table_path(job.out, "groups", 0)
    if path.exists():
        return
    first = np.arange(int(plan.documents[-1]))
    for unit in range(plan.units):
        for pairs in iterate_part(table_path(job.out, "similar", unit), 0, SIMILAR):
            join(first, pairs["later"], pairs["earlier"])
    sizes = np.zeros(len(first), np.int32)
    counts = np.zeros(plan.units, np.int64)
    with Spool(FOUND) as spool:
        for unit in range(plan.units):
            rows = _joined(first, plan, unit)
            np.add.at(sizes, rows["kept"], 1)
            spool.add(rows)
            counts[unit] = len(rows)
        groups = int(np.count_nonzero(sizes))
        largest = int(sizes.max(initial=0)) + 1 if groups else 0
        spool.save(path, counts, {"groups": groups, "largest": largest})


def join(first: Places, ones: Places, others: Places) -> None:
    """Union-find over arrays: first[i] <= i leads to the smallest number that i is joined with.

    Roots are hooked to smaller roots until none is left that differs (Shiloach, Vishkin 1982), so a chain of n takes
    rounds of its logarithm.
    """
    while len(ones):
        ones, others = roots(first, ones), roots(first, others)
        differ = ones != others
        ones, others = ones[differ], others[differ]
        np.minimum.at(first, np.maximum(ones, others), np.minimum(ones, others))


def roots(first: Places, numbers: Places) -> Places:
    """The smallest number that each is joined with so far; makes the ways there half as long until they are direct."""
    while True:
        ahead = first[numbers]
        further = first[ahead]
        if np.array_equal(ahead, further):
            return ahead
        first[numbers] = further


def near_documents(job: Job, unit: int) -> Rows:
    """The unit's documents that are nearly the same as an earlier one, and the first of each group (FOUND)."""
    if job.config.near is None:
        return np.zeros(0, FOUND)
    return read_part(table_path(job.out, "groups", 0), unit, FOUND)


def near_notes(job: Job) -> dict[str, Any]:
    """How many groups there are, and how large the largest is."""
    return read_notes(table_path(job.out, "groups", 0))


def _joined(first: Places, plan: Plan, unit: int) -> Rows:
    """The unit's documents that are joined with an earlier one; those of an index are never dropped."""
    start, stop = plan.bounds(unit)
    start = max(start, plan.known)
    numbers = np.arange(start, max(start, stop))
    root = roots(first, numbers)
    later = root != numbers
    return found(numbers[later], root[later])


def _similar(rows: Rows) -> Rows:
    similar = np.empty(len(rows), SIMILAR)
    similar["later"], similar["earlier"] = rows["later"], rows["earlier"]
    return similar


def _asked_type(job: Job) -> Any:
    assert job.config.near is not None
    return np.dtype([("later", "<i8"), ("earlier", "<i8"), ("signature", "<u2", (job.config.near.permutations,))])
