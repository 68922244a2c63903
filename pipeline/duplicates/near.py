"""Documents that are nearly the same: pairs that met are compared by their signatures, and groups joined from them.

`similar-0/` has the pairs of at least the similarity of the config. Then come a few rounds: what is left is joined to
groups by these pairs (connected components, `groups-N/`), and each document is compared with the first of its group. It
is dropped if they have half that similarity (`similar-N/`); the first is kept, and the others go on. What is left after
the last round is dropped only for a document that is kept and with which it is itself a similar pair. So all that is
dropped was compared with what is kept for it: the end of a chain does not fall for its beginning. The first document in
input order stays. Price: one process holds 12 bytes a document, and 16 a pair of what is left.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.base.workers import Workers
from pipeline.duplicates.bands import map_bands, met_pairs, pair_bucket
from pipeline.duplicates.exact import FOUND, found
from pipeline.duplicates.passes import discard, run_pass
from pipeline.duplicates.plan import Job, Plan, concatenated, load_plan, read_keys, table_path
from pipeline.duplicates.signatures import estimated_similarity
from pipeline.duplicates.tables import Places, Rows, Spool, iterate_part, read_notes, read_part

MOST_COMPARED = 8
"""Earlier documents with which one document's signature is compared, those first that it met most often."""
ROUNDS = 3
"""Times that what is left of the groups is compared with the first of its group."""
COPY_OF_A_COPY = 0.5
"""Share of the config's similarity that a document of a group must have to its first.

Two copies of one text, in each of which 5 % of the words are others, have about 0.43 to each other, and 0.63 to it.
"""
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
    _compare(job, workers, plan, 0)
    discard(job, "pairs", "pairs-here")
    if not (job.out / "groups.done").exists():
        for turn in range(1, ROUNDS + 1):
            run_pass(job, workers, f"groups-{turn}", join_groups, 1, turn)
            if not read_notes(table_path(job.out, f"groups-{turn}", 0))["joined"]:
                break
            _compare(job, workers, plan, turn)
        run_pass(job, workers, "groups", settle, 1)
    for turn in range(ROUNDS + 1):
        discard(job, f"groups-{turn}", f"similar-{turn}")


def _compare(job: Job, workers: Workers, plan: Plan, turn: int) -> None:
    if not (job.out / f"similar-{turn}.done").exists():
        run_pass(job, workers, f"asked-{turn}", ask_unit, plan.units, turn)
        run_pass(job, workers, f"similar-{turn}", compare_unit, plan.units, turn)
    discard(job, f"asked-{turn}")


def ask_unit(job: Job, unit: int, turn: int) -> None:
    """The unit's pairs with the signatures of their later documents, for the units of the earlier ones.

    The pairs that met, and in a round each document with the first of its group.
    """
    plan, path = load_plan(job.out), table_path(job.out, f"asked-{turn}", unit)
    if path.exists():
        return
    if turn:
        pairs = read_part(table_path(job.out, f"groups-{turn}", 0), unit, SIMILAR)
    else:
        pairs = met_pairs(job, unit, MOST_COMPARED)
    first, stop = plan.bounds(unit)
    signatures = read_keys(job, plan.documents, "near", first, stop) if len(pairs) else None
    order = np.argsort(pairs["earlier"] // plan.unit, kind="stable")
    with Spool(_asked_type(job)) as spool:
        for some in np.array_split(order, 1 + len(order) // ASKED_ROWS):
            rows = np.empty(len(some), spool.dtype)
            rows["later"], rows["earlier"] = pairs["later"][some], pairs["earlier"][some]
            if signatures is not None:
                rows["signature"] = signatures[rows["later"] - first]
            spool.add(rows)
        spool.save(path, np.bincount(pairs["earlier"] // plan.unit, minlength=plan.units))


def compare_unit(job: Job, unit: int, turn: int) -> None:
    """Of the pairs whose earlier document is the unit's, those of at least the similarity that is asked for."""
    plan, path = load_plan(job.out), table_path(job.out, f"similar-{turn}", unit)
    if path.exists() or job.config.near is None:
        return
    least = job.config.near.similarity * (COPY_OF_A_COPY if turn else 1)
    first, stop = plan.bounds(unit)
    signatures = read_keys(job, plan.documents, "near", first, stop)
    count = 0
    with Spool(SIMILAR) as spool:
        for later in range(unit, plan.units):
            for asked in iterate_part(table_path(job.out, f"asked-{turn}", later), unit, _asked_type(job)):
                similarity = estimated_similarity(asked["signature"], signatures[asked["earlier"] - first])
                enough = asked[similarity >= least]
                spool.add(_pairs(enough["later"], enough["earlier"]))
                count += len(enough)
        spool.save(path, np.array([count]))


def join_groups(job: Job, _: int, turn: int) -> None:
    """Connected components of the similar pairs of what is left: each document and the first of its group, by unit.

    Notes: how many documents have another one as their first.
    """
    plan, path = load_plan(job.out), table_path(job.out, f"groups-{turn}", 0)
    if path.exists():
        return
    settled = _settled(job, plan, turn - 1)
    first = np.arange(len(settled))
    for pairs in _similar(job, plan, 0):
        left = pairs[~(settled[pairs["later"]] | settled[pairs["earlier"]])]
        join(first, left["later"], left["earlier"])
    counts = np.zeros(plan.units, np.int64)
    with Spool(SIMILAR) as spool:
        for unit in range(plan.units):
            numbers = np.arange(*plan.bounds(unit))
            root = roots(first, numbers)
            later = root != numbers
            spool.add(_pairs(numbers[later], root[later]))
            counts[unit] = later.sum()
        spool.save(path, counts, {"joined": int(counts.sum())})


def settle(job: Job, _: int) -> None:
    """What is dropped, and for which document, by unit. Notes: groups of two or more, and the largest.

    Documents of an index count as others do, but are not told: they are never dropped.
    """
    plan, path = load_plan(job.out), table_path(job.out, "groups", 0)
    if path.exists():
        return
    rest = _among_the_rest(job, plan)
    kept = np.full(int(plan.documents[-1]), -1)
    for turn in range(1, ROUNDS + 1):
        for pairs in _similar(job, plan, turn):
            kept[pairs["later"]] = pairs["earlier"]
    kept[rest["later"]] = rest["earlier"]
    sizes = np.zeros(len(kept), np.int32)
    counts = np.zeros(plan.units, np.int64)
    with Spool(FOUND) as spool:
        for unit in range(plan.units):
            start, stop = plan.bounds(unit)
            start = min(max(start, plan.known), stop)
            dropped = start + np.flatnonzero(kept[start:stop] >= 0)
            np.add.at(sizes, kept[dropped], 1)
            spool.add(found(dropped, kept[dropped]))
            counts[unit] = len(dropped)
        groups = int(np.count_nonzero(sizes))
        spool.save(path, counts, {"groups": groups, "largest": int(sizes.max(initial=0)) + 1 if groups else 0})


def _among_the_rest(job: Job, plan: Plan) -> Rows:
    """Of what no round settled, in input order, each document that is a similar pair with one that is kept."""
    settled, rest = _settled(job, plan, ROUNDS), []
    for pairs in _similar(job, plan, 0):
        rest.append(pairs[~(settled[pairs["later"]] | settled[pairs["earlier"]])])
    together = concatenated(rest, SIMILAR)
    dropped: dict[int, int] = {}
    for place in np.lexsort((together["earlier"], together["later"])):
        later, earlier = together[place].tolist()
        if later not in dropped and earlier not in dropped:
            dropped[later] = earlier
    return _pairs(list(dropped), list(dropped.values()))


def _settled(job: Job, plan: Plan, turn: int) -> Any:
    """Which documents the rounds up to this one dropped, or kept as the first of their groups (documents,) bool."""
    settled = np.zeros(int(plan.documents[-1]), bool)
    for number in range(1, turn + 1):
        if (job.out / f"similar-{number}.done").exists():
            for unit in range(plan.units):
                settled[read_part(table_path(job.out, f"groups-{number}", 0), unit, SIMILAR)["earlier"]] = True
            for pairs in _similar(job, plan, number):
                settled[pairs["later"]] = True
    return settled


def _similar(job: Job, plan: Plan, turn: int) -> Iterator[Rows]:
    """The pairs that a round found similar; none of a round that there was not."""
    if (job.out / f"similar-{turn}.done").exists():
        for unit in range(plan.units):
            yield from iterate_part(table_path(job.out, f"similar-{turn}", unit), 0, SIMILAR)


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
    """The unit's documents that are nearly the same as an earlier one, and the one that is kept (FOUND)."""
    if job.config.near is None:
        return np.zeros(0, FOUND)
    return read_part(table_path(job.out, "groups", 0), unit, FOUND)


def near_notes(job: Job) -> dict[str, Any]:
    """How many groups there are, and how large the largest is."""
    return read_notes(table_path(job.out, "groups", 0))


def _pairs(later: Any, earlier: Any) -> Rows:
    rows = np.empty(len(later), SIMILAR)
    rows["later"], rows["earlier"] = later, earlier
    return rows


def _asked_type(job: Job) -> Any:
    assert job.config.near is not None
    return np.dtype([("later", "<i8"), ("earlier", "<i8"), ("signature", "<u2", (job.config.near.permutations,))])
