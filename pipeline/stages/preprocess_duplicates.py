"""Copies among the documents: found from the keys that the read pass has kept, told with examples of their texts."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import Workers
from pipeline.corpus.documents import EXAMPLE_CHARACTERS, EXAMPLES
from pipeline.corpus.quarantine import line_at
from pipeline.corpus.tasks import Task
from pipeline.duplicates.find import DuplicateTotals, Place, find_duplicates
from pipeline.duplicates.index import save_index
from pipeline.duplicates.paragraphs import split_paragraphs
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
    """At most five pairs of each kind: where they are, and how their texts, or the paragraph that is cut, begin."""
    pairs = [(kind, *pair) for kind, some in found.examples.items() for pair in some[:EXAMPLES]]
    firsts_of = _firsts(work, {task for _, *pair in pairs for task, *_ in pair})
    texts = _texts(work, {(place[0], place[1]) for _, *pair in pairs for place in pair if place[0] >= 0})
    told = []
    for kind, dropped, kept in pairs:
        text, kept_text = texts[dropped[:2]], texts.get(kept[:2], "")
        if len(dropped) > 2:  # a paragraph, and the same in the document that is kept
            text = kept_text = split_paragraphs(text)[dropped[2]][0].strip()
        sides = {"dropped": (dropped, text), "kept": (kept, kept_text)}
        told.append({"kind": kind} | {side: _shown(work, *one, firsts_of) for side, one in sides.items()})
    return told


def _firsts(work: Work, wanted: set[int]) -> dict[int, tuple[Task, list[int]]]:
    """Of these tasks: the task, and the lines of its files before each of its spans."""
    return {number: (task, firsts) for number, task, _, firsts in reads_in_order(work, work.read) if number in wanted}


def _shown(work: Work, place: Place, text: str, firsts_of: dict[int, tuple[Task, list[int]]]) -> dict[str, Any]:
    number, document = place[:2]
    if number < 0:
        return {"file": "an older revision", "line": None, "text": text[:EXAMPLE_CHARACTERS]}
    with (work.read.folder(number) / "places.npy").open("rb") as file:
        span, line = np.load(file, allow_pickle=False)[document].tolist()
    task, firsts = firsts_of[number]
    at = line_at(firsts[span], line)
    return {"file": task.spans[span].file.path, "line": at, "text": text[:EXAMPLE_CHARACTERS]}


def _texts(work: Work, places: set[Place]) -> dict[Place, str]:
    """Texts of some documents by (task, number). A task is read once, as far as it has to be: it is all read again."""
    wanted: dict[int, set[int]] = {}
    for task, number in places:
        wanted.setdefault(task, set()).add(number)
    found: dict[Place, str] = {}
    for task, numbers in wanted.items():
        for number, text in enumerate(islice(task_texts(work, task), max(numbers) + 1)):
            if number in numbers:
                found[task, number] = text
    return found
