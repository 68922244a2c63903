"""Copies among the documents: found from the keys that the read pass has kept, told with examples of their texts."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import Workers
from pipeline.corpus.documents import EXAMPLE_CHARACTERS, EXAMPLES
from pipeline.corpus.quarantine import line_at
from pipeline.duplicates.find import DuplicateTotals, Place, find_duplicates
from pipeline.duplicates.index import save_index
from pipeline.stages.preprocess_tasks import task_texts
from pipeline.stages.preprocess_totals import reads_in_order
from pipeline.stages.preprocess_work import Work

_SUMS = ("exact", "near", "paragraphs", "paragraph_characters", "groups")


def find_copies(work: Work, folder: RunFolder, workers: Workers, before: dict[str, Any]) -> dict[str, Any]:
    """What is dropped, by kind, with examples; added to what an older revision dropped (`before`)."""
    indexes = [index_folder(folder, revision) for revision in range(1, work.revision)]
    config = work.config.corpus.deduplicate
    found = find_duplicates(config, work.read.folder, len(work.tasks), work.duplicates, workers, indexes or None)
    counts = {
        "exact": found.exact,
        "near": found.near,
        "paragraphs": found.paragraphs,
        "paragraph_characters": found.characters,
        "groups": found.exact_groups + found.near_groups,
    }
    total: dict[str, Any] = {name: before.get(name, 0) + counts[name] for name in _SUMS}
    total["largest_group"] = max(found.exact_largest, found.near_largest, before.get("largest_group", 0))
    total["examples"] = before.get("examples") or _examples(work, found)
    return total


def keep_index(work: Work, folder: RunFolder, workers: Workers) -> None:
    """Keeps the keys of the documents that stay, for a later revision."""
    index = index_folder(folder, work.revision)
    config = work.config.corpus.deduplicate
    save_index(config, work.read.folder, len(work.tasks), work.duplicates, index, workers)


def index_folder(folder: RunFolder, revision: int) -> Path:
    """Keys of the documents of one revision."""
    return folder.data / "index" / f"{revision:06d}"


def _examples(work: Work, found: DuplicateTotals) -> list[dict[str, Any]]:
    """At most five pairs of each kind: where they are, and how their texts begin."""
    pairs = [(kind, *pair) for kind, some in found.examples.items() for pair in some[:EXAMPLES]]
    places = {place for _, *pair in pairs for place in pair}
    shown = {place: _shown(work, place) for place in places}
    wanted = {task for task, _ in places}
    for number, task, _, firsts in reads_in_order(work, work.read):
        if number in wanted:
            for place, example in shown.items():
                if place[0] == number:
                    span = example.pop("span")
                    example["file"], example["line"] = (
                        task.spans[span].file.path,
                        line_at(firsts[span], example["line"]),
                    )
    return [{"kind": kind, "dropped": shown[dropped], "kept": shown[kept]} for kind, dropped, kept in pairs]


def _shown(work: Work, place: Place) -> dict[str, Any]:
    task, document = place
    if task < 0:
        return {"file": "an older revision", "line": None, "text": ""}
    with (work.read.folder(task) / "places.npy").open("rb") as file:
        span, line = np.load(file, allow_pickle=False)[document].tolist()
    text = next(islice(task_texts(work, task), document, None))
    return {"span": span, "line": line, "text": text[:EXAMPLE_CHARACTERS]}
