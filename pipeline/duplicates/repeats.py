"""Paragraphs with the same hash: of each group the first in input order stays, the others are cut.

Documents that are dropped as a whole do not count, so the first copy of a paragraph is one that is really kept. Three
passes. `paragraphs/` has of each unit of paragraphs its distinct hashes by bucket, `paragraphs-here/` its own repeats;
`paragraphs-found/` has of each bucket those that an earlier unit had already; both by the unit of their documents, from
which `cuts/` gathers them.
"""

from typing import Any

import numpy as np

from pipeline.duplicates.drops import CUT, EXAMPLES, examples, of_source, write_by_source
from pipeline.duplicates.plan import Job, Plan, bucket_of, concatenated, load_plan, pieces, read_keys, table_path
from pipeline.duplicates.tables import Rows, read_notes, read_part, write_table

RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("document", "<i8"), ("number", "<u4"), ("characters", "<u4")])


def map_paragraphs(job: Job, unit: int) -> None:
    """Groups a unit's own paragraphs, and hands one of each group to its hash's bucket."""
    plan, path = load_plan(job.out), table_path(job.out, "paragraphs", unit)
    if path.exists():
        return
    records = kept_paragraphs(job, plan, unit)
    first = _first_equal(records)
    _write_cuts(job, plan, "paragraphs-here", unit, _cuts(plan, records, first))
    buckets = plan.buckets["paragraphs"]
    alone = plan.paragraph_units == 1  # then there is nobody to compare them with
    firsts = records[:0] if alone else records[first == np.arange(len(records))]
    write_table(path, firsts, bucket_of(firsts["high"], buckets), buckets)


def group_paragraphs(job: Job, bucket: int) -> None:
    """Groups the paragraphs of all units whose hashes fall into the bucket."""
    plan = load_plan(job.out)
    if table_path(job.out, "paragraphs-found", bucket).exists():
        return
    units = range(plan.paragraph_units)
    records = concatenated([read_part(table_path(job.out, "paragraphs", one), bucket, RECORD) for one in units], RECORD)
    _write_cuts(job, plan, "paragraphs-found", bucket, _cuts(plan, records, _first_equal(records)))


def cut_paragraphs(job: Job, unit: int) -> dict[str, Any]:
    """Gathers the cuts in the unit's documents. Returns, and notes, how many there are, their characters, examples.

    An example's first place is [task, document, number of the paragraph in it].
    """
    plan, path = load_plan(job.out), table_path(job.out, "cuts", unit)
    if not path.exists():
        found = [read_part(table_path(job.out, "paragraphs-here", one), unit, CUT) for one in _overlapping(plan, unit)]
        for bucket in range(plan.buckets["paragraphs"]):
            found.append(read_part(table_path(job.out, "paragraphs-found", bucket), unit, CUT))
        rows = concatenated(found, CUT)
        rows = rows[np.lexsort((rows["number"], rows["document"]))]
        numbers = rows["number"][:EXAMPLES].tolist()
        shown = [[[*cut, number], kept] for (cut, kept), number in zip(examples(plan, rows), numbers, strict=True)]
        notes = {"cut": len(rows), "characters": int(rows["characters"].sum()), "examples": shown}
        write_by_source(path, plan, unit, rows, notes)
    return read_notes(path)


def kept_paragraphs(job: Job, plan: Plan, unit: int) -> Rows:
    """RECORD rows of a unit of paragraphs, without those of dropped documents."""
    start = plan.paragraph_unit * unit
    stop = min(start + plan.paragraph_unit, int(plan.paragraphs[-1]))
    keys = read_keys(job, plan.paragraphs, "paragraphs", start, stop)
    records = np.empty(len(keys), RECORD)
    for name in ("high", "low", "number", "characters"):
        records[name] = keys[name]
    kept, done = np.ones(len(keys), bool), 0
    for source, first, last in pieces(plan.paragraphs, start, stop):
        ours = slice(done, done + last - first)
        done += last - first
        if source < plan.parts:
            records["document"][ours] = 0  # an index keeps hashes, not where they were
            continue
        documents = keys["document"][ours].astype(np.int64)
        records["document"][ours] = documents + plan.documents[source]
        kept[ours] = ~np.isin(documents, of_source(job.out, plan, "documents", source)["document"])
    return records[kept]


def _first_equal(records: Rows) -> Any:
    from pipeline.duplicates.equal_loops import first_equal

    return first_equal(records["high"], records["low"])


def _cuts(plan: Plan, records: Rows, first: Any) -> Rows:
    repeats = np.flatnonzero(first != np.arange(len(records)))
    cuts = np.empty(len(repeats), CUT)
    for name in ("document", "number", "characters"):
        cuts[name] = records[name][repeats]
    cuts["kept"] = records["document"][first[repeats]]
    return cuts[cuts["document"] >= plan.known]


def _write_cuts(job: Job, plan: Plan, name: str, unit: int, cuts: Rows) -> None:
    write_table(table_path(job.out, name, unit), cuts, cuts["document"] // plan.unit, plan.units)


def _overlapping(plan: Plan, unit: int) -> range:
    """Units of paragraphs that may hold some of a unit of documents."""
    first, stop = plan.bounds(unit)
    start = int(plan.paragraphs[np.searchsorted(plan.documents, first, "right") - 1])
    end = int(plan.paragraphs[np.searchsorted(plan.documents, stop, "left")])
    return range(start // plan.paragraph_unit, -(-end // plan.paragraph_unit) if end > start else 0)
