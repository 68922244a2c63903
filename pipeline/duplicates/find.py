"""Finds repeated documents and paragraphs over the keys of all tasks: exact, then near, then paragraphs.

Each step leaves out what was dropped before, so what a copy was dropped for is itself kept. The result is the same for
any number of workers; a run that is killed goes on from the units of work that are complete, or, where one worker does
all of them, begins anew. Price: the keys are sorted by shuffles through files in `out`, which need room there while
they last (docs/deduplication.md).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.base.duplicates_sections import DeduplicateConfig
from pipeline.base.files import read_json, write_atomic, write_json
from pipeline.base.workers import Workers
from pipeline.duplicates.drops import EXAMPLES, drop_documents
from pipeline.duplicates.exact import group_bucket, map_documents
from pipeline.duplicates.index import open_indexes
from pipeline.duplicates.near import find_near, near_notes
from pipeline.duplicates.passes import discard, run_pass
from pipeline.duplicates.plan import PLAN_FILES, Job, Plan, load_plan, make_plan, table_path
from pipeline.duplicates.repeats import cut_paragraphs, group_paragraphs, map_paragraphs
from pipeline.duplicates.scratch import scratch_folder
from pipeline.duplicates.tables import read_notes

Place = tuple[int, ...]
"""Task, and document in the task; of a paragraph that is cut also its number in the document. (-1, number) for a
document of an index."""

_UNTIL_DONE = ("counts", "same-here", "same-found", "groups", "paragraphs-here", "paragraphs-found")
"""Files from which a run that was killed counts again."""


@dataclass
class DuplicateTotals:
    """What is dropped. A group is a document that is kept and its copies; `largest` counts all of them."""

    exact: int = 0
    """Documents."""
    exact_groups: int = 0
    exact_largest: int = 0
    near: int = 0
    """Documents."""
    near_groups: int = 0
    near_largest: int = 0
    paragraphs: int = 0
    """Paragraphs that are cut."""
    characters: int = 0
    """In these paragraphs."""
    examples: dict[str, list[tuple[Place, Place]]] = field(default_factory=dict)
    """The first few of each kind (exact, near, paragraphs): what is dropped, and what is kept for it."""


def find_duplicates(
    config: DeduplicateConfig,
    folders: Callable[[int], Path],
    tasks: int,
    out: Path,
    workers: Workers,
    index: Path | Sequence[Path] | None = None,
) -> DuplicateTotals:
    """What each of `tasks` tasks drops; read_drops(out, task) has it afterwards. UserError for an index of other keys.

    folders(task): where the task's KeyWriter saved its keys; it is sent to the workers. index: one or more of
    save_index: their documents come before all others and are not dropped again.
    """
    indexes = [] if index is None else list(index) if isinstance(index, Sequence) else [index]
    job = Job(config, folders, tasks, out, open_indexes(config, indexes))
    done = out / "totals.json"
    if not done.exists():
        if make_plan(job, workers).is_small:
            ((_, found),) = workers.map_unordered(find_alone, [(job,)])
        else:
            found = asdict(_find(job, workers))
        write_json(done, found)
    discard(job, *_UNTIL_DONE)
    values = read_json(done)
    values["examples"] = {
        kind: [(tuple(dropped), tuple(kept)) for dropped, kept in pairs] for kind, pairs in values["examples"].items()
    }
    return DuplicateTotals(**values)


class _Alone(Workers):
    """In place of Ray's workers this process."""

    def __init__(self) -> None:
        super().__init__("this process", 1)

    def map_unordered(
        self, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], **_: bool
    ) -> Iterator[tuple[int, Any]]:
        """As Workers.map_unordered."""
        for place, one in enumerate(arguments):
            yield place, function(*one)


def find_alone(job: Job) -> dict[str, Any]:
    """All passes in one worker, where there is one unit of each: what passes leave for each other never leaves it."""
    with scratch_folder() as folder:
        for name in PLAN_FILES:
            (folder / name).write_bytes((job.out / name).read_bytes())
        totals = _find(replace(job, out=folder), _Alone())
        plan = load_plan(folder)
        for name in plan.results:
            for unit in range(plan.units):
                write_atomic(table_path(job.out, name, unit), table_path(folder, name, unit).read_bytes())
    return asdict(totals)


def _find(job: Job, workers: Workers) -> DuplicateTotals:
    plan, totals = load_plan(job.out), DuplicateTotals()
    if job.config.documents:
        buckets = plan.buckets["documents"]
        if not (job.out / "same-found.done").exists():
            run_pass(job, workers, "same", map_documents, plan.units)
            run_pass(job, workers, "same-found", group_bucket, buckets)
        discard(job, "same")
        for bucket in range(buckets):
            notes = read_notes(table_path(job.out, "same-found", bucket))
            totals.exact_groups += notes["groups"]
            totals.exact_largest = max(totals.exact_largest, notes["largest"] if notes["groups"] else 0)
    if job.config.near is not None:
        find_near(job, workers)
        notes = near_notes(job)
        totals.near_groups, totals.near_largest = notes["groups"], notes["largest"]
    if "documents" in plan.results:
        for notes in workers.map_ordered(drop_documents, ((job, unit) for unit in range(plan.units))):
            totals.exact += notes["exact"]["dropped"]
            totals.near += notes["near"]["dropped"]
            for kind in ("exact", "near"):
                _show(totals, kind, notes[kind]["examples"])
    if job.config.paragraphs:
        _find_paragraphs(job, plan, workers, totals)
    return totals


def _find_paragraphs(job: Job, plan: Plan, workers: Workers, totals: DuplicateTotals) -> None:
    if not (job.out / "paragraphs-found.done").exists():
        run_pass(job, workers, "paragraphs", map_paragraphs, plan.paragraph_units)
        run_pass(job, workers, "paragraphs-found", group_paragraphs, plan.buckets["paragraphs"])
    discard(job, "paragraphs")
    for notes in workers.map_ordered(cut_paragraphs, ((job, unit) for unit in range(plan.units))):
        totals.paragraphs += notes["cut"]
        totals.characters += notes["characters"]
        _show(totals, "paragraphs", notes["examples"])


def _show(totals: DuplicateTotals, kind: str, examples: list[Any]) -> None:
    shown = totals.examples.setdefault(kind, [])
    shown += examples[: EXAMPLES - len(shown)]
