"""Which documents and paragraphs each task drops: the results, in files by unit from which a task reads its own rows.

`documents/` has the repeated documents, `cuts/` the repeated paragraphs of the others; both are written after all that
leads to them, and read again by every task of the next pass.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.duplicates.exact import same_documents
from pipeline.duplicates.near import near_documents
from pipeline.duplicates.plan import Job, Plan, load_plan, table_path
from pipeline.duplicates.tables import Rows, read_notes, read_part, write_table

EXACT, NEAR = 1, 2
KINDS = {EXACT: "exact", NEAR: "near"}
DROP = np.dtype([("document", "<i8"), ("kept", "<i8"), ("kind", "<i8")])
CUT = np.dtype([("document", "<i8"), ("kept", "<i8"), ("number", "<u4"), ("characters", "<u4")])
EXAMPLES = 5
"""Pairs of places that are shown of each kind."""


class Drops(NamedTuple):
    """What one task leaves out; documents count from 0 in the task."""

    documents: Any
    """(drops,) int64, ascending."""
    kinds: Any
    """(drops,) uint8: EXACT or NEAR."""
    paragraphs: Any
    """(cuts, 2) int64 of document and number of the paragraph in it, ascending; never of a document that is dropped."""


def read_drops(out: Path, task: int) -> Drops:
    """What find_duplicates found for a task."""
    plan = load_plan(out)
    drops = of_source(out, plan, "documents", plan.parts + task)
    cuts = of_source(out, plan, "cuts", plan.parts + task)
    return Drops(
        drops["document"], drops["kind"].astype(np.uint8), np.stack([cuts["document"], cuts["number"]], 1).astype(int)
    )


def of_source(out: Path, plan: Plan, name: str, source: int) -> Rows:
    """Rows of `documents` or `cuts` of one source; their document counts in it."""
    dtype = DROP if name == "documents" else CUT
    start, stop = int(plan.documents[source]), int(plan.documents[source + 1])
    found = [np.zeros(0, dtype)]
    if name in plan.results:
        for unit in range(start // plan.unit, -(-stop // plan.unit) if stop > start else 0):
            found.append(read_part(table_path(out, name, unit), source - first_source(plan, unit), dtype))
    rows = np.concatenate(found)
    rows["document"] -= start
    return rows


def first_source(plan: Plan, unit: int) -> int:
    """The source in which a unit's first document is."""
    return int(np.searchsorted(plan.documents, plan.bounds(unit)[0], "right")) - 1


def write_by_source(path: Path, plan: Plan, unit: int, rows: Rows, notes: dict[str, Any]) -> None:
    """Writes a unit's rows in parts, a source each."""
    first, last = first_source(plan, unit), first_source_after(plan, unit)
    sources = np.searchsorted(plan.documents, rows["document"], "right") - 1
    write_table(path, rows, sources - first, last - first, notes)


def first_source_after(plan: Plan, unit: int) -> int:
    """The source after the one in which a unit's last document is."""
    return int(np.searchsorted(plan.documents, plan.bounds(unit)[1], "left"))


def drop_documents(job: Job, unit: int) -> dict[str, Any]:
    """Gathers the unit's exact and near repeats. Returns, and notes, how many there are and the first examples."""
    plan, path = load_plan(job.out), table_path(job.out, "documents", unit)
    if not path.exists():
        parts = []
        for kind, found in ((EXACT, same_documents(job, unit)), (NEAR, near_documents(job, unit))):
            rows = np.empty(len(found), DROP)
            rows["document"], rows["kept"], rows["kind"] = found["document"], found["kept"], kind
            parts.append(rows)
        rows = np.concatenate(parts)
        rows = rows[np.argsort(rows["document"])]
        rows = rows[rows["document"] >= plan.known]
        notes: dict[str, Any] = {}
        for kind, name in KINDS.items():
            ours = rows[rows["kind"] == kind]
            notes[name] = {"dropped": len(ours), "examples": examples(plan, ours)}
        write_by_source(path, plan, unit, rows, notes)
    return read_notes(path)


def examples(plan: Plan, rows: Rows) -> list[Any]:
    """[[task, document] that is dropped, [task, document] that is kept] of the first few rows."""
    return [[plan.place(int(row["document"])), plan.place(int(row["kept"]))] for row in rows[:EXAMPLES]]
