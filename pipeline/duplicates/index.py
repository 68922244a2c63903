"""What a finished data set keeps so that later documents are compared with its own: the keys of what it kept.

An index is a folder of parts that look like tasks to the passes, of documents that are all distinct. Price: the
hashes and signatures of the documents that are kept (docs/deduplication.md), not their texts; it serves only runs that
compare in the same way.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.duplicates_sections import DeduplicateConfig
from pipeline.base.errors import UserError
from pipeline.base.files import complete_file, read_json, write_json
from pipeline.base.workers import Workers
from pipeline.duplicates.drops import of_source
from pipeline.duplicates.keys import COUNTS_FILE, FILES, PARAGRAPH, read_rows, row_type, write_counts
from pipeline.duplicates.plan import Job, Plan, load_plan, part_name, pieces, read_keys
from pipeline.duplicates.signatures import scheme
from pipeline.duplicates.tables import Rows

INDEX_FILE = "index.json"


def save_index(
    config: DeduplicateConfig,
    folders: Callable[[int], Path],
    tasks: int,
    out: Path,
    index: Path,
    workers: Workers,
) -> None:
    """Keeps in the folder `index` the keys of the documents and paragraphs that find_duplicates in `out` left.

    Of the tasks alone: a data set that was itself compared with indexes goes on being compared with these, too.
    """
    if (index / INDEX_FILE).exists():
        return
    plan = load_plan(out)
    job = Job(config, folders, tasks, out, ((index, plan.parts),))  # of earlier indexes nothing is read
    parts = max(plan.units, plan.paragraph_units)
    for _ in workers.map_unordered(save_part, ((job, index, part) for part in range(parts))):
        pass
    write_json(index / INDEX_FILE, {**kept_keys(config), "parts": parts})


def open_indexes(config: DeduplicateConfig, indexes: Sequence[Path]) -> tuple[tuple[Path, int], ...]:
    """Each index and its number of parts. UserError where one lacks what the config compares, or compares otherwise."""
    opened = []
    for index in indexes:
        notes = read_json(index / INDEX_FILE)
        for key, value in kept_keys(config).items():
            if value and notes.get(key) != value:
                raise UserError(
                    f"the index {index} was made with corpus.deduplicate.{key} as {notes.get(key)}, not {value}: its "
                    "documents cannot be compared with new ones. Set the keys of the data set that it belongs to."
                )
        opened.append((index, int(notes["parts"])))
    return tuple(opened)


def kept_keys(config: DeduplicateConfig) -> dict[str, Any]:
    """What an index holds, by the config's keys."""
    return {
        "documents": config.documents,
        "near": scheme(config.near) if config.near else False,
        "paragraphs": config.paragraphs,
        "min_paragraph_characters": config.min_paragraph_characters if config.paragraphs else 0,
    }


def save_part(job: Job, index: Path, part: int) -> None:
    """The keys that are kept of a unit of documents, and of the unit of paragraphs with the same number."""
    folder, plan = index / part_name(part), load_plan(job.out)
    if (folder / COUNTS_FILE).exists():
        return
    documents, paragraphs = kept_documents(job, plan, part), kept_paragraphs(job, plan, part)
    for kind in ("documents", "near"):
        if kept_keys(job.config)[kind]:
            keys = read_keys(job, plan.documents, kind, *_bounds(plan, part))
            _write(folder / FILES[kind], keys[documents], row_type(kind, job.config))
    if job.config.paragraphs:
        _write(folder / FILES["paragraphs"], paragraphs, PARAGRAPH)
    write_counts(folder, int(documents.sum()), len(paragraphs))


def kept_documents(job: Job, plan: Plan, unit: int) -> Any:
    """Which of a unit's new documents are kept (documents,) bool."""
    kept = [np.zeros(0, bool)]
    for source, first, last in pieces(plan.documents, *_bounds(plan, unit)):
        dropped = of_source(job.out, plan, "documents", source)["document"]
        kept.append(~np.isin(np.arange(first, last), dropped))
    return np.concatenate(kept)


def kept_paragraphs(job: Job, plan: Plan, unit: int) -> Rows:
    """PARAGRAPH rows of a unit of paragraphs that are neither cut nor in a dropped document; where they are is lost."""
    first = max(plan.paragraph_unit * unit, int(plan.paragraphs[plan.parts]))
    stop = min(plan.paragraph_unit * (unit + 1), int(plan.paragraphs[-1]))
    kept = [np.zeros(0, PARAGRAPH)]
    for source, start, end in pieces(plan.paragraphs, first, stop):
        rows = read_rows(job.folder(source), "paragraphs", job.config, start, end).copy()
        cuts = of_source(job.out, plan, "cuts", source)
        gone = np.isin(rows["document"], of_source(job.out, plan, "documents", source)["document"])
        gone |= np.isin(_places(rows), _places(cuts))
        rows = rows[~gone]
        rows["document"] = rows["number"] = 0
        kept.append(rows)
    return np.concatenate(kept)


def _bounds(plan: Plan, unit: int) -> tuple[int, int]:
    """The unit's documents that are not of an index; none of a unit that there is not."""
    start, stop = plan.bounds(unit)
    return max(start, plan.known), max(stop, start, plan.known)


def _places(rows: Rows) -> Any:
    return (rows["document"].astype(np.int64) << 32) | rows["number"]


def _write(path: Path, rows: Rows, dtype: Any) -> None:
    with complete_file(path) as aside:
        aside.write_bytes(rows.astype(dtype.base, copy=False).tobytes())
