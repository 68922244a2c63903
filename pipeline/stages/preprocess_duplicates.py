"""Copies among the documents: found from the keys that the read pass has kept, told with examples of their texts."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.files import read_json, write_json
from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import Workers
from pipeline.corpus.documents import EXAMPLE_CHARACTERS, EXAMPLES, Document
from pipeline.corpus.quarantine import line_at
from pipeline.corpus.tasks import Task
from pipeline.duplicates.find import find_duplicates
from pipeline.duplicates.index import save_index
from pipeline.duplicates.paragraphs import split_paragraphs
from pipeline.stages.preprocess_totals import reads_in_order
from pipeline.stages.preprocess_work import Pass, Work

PAIRS_FILE, EXAMPLES_FILE = "examples.json", "examples.json"
"""Which copies are shown, and of a task the beginnings of such texts: the tokenise pass, which reads them anyway."""
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
    total["examples"] = list(before.get("examples", []))
    pairs = [[kind, *pair] for kind, some in found.examples.items() for pair in some[:EXAMPLES]]
    write_json(work.duplicates / PAIRS_FILE, [] if total["examples"] else pairs)
    return total


def keep_index(work: Work, folder: RunFolder, workers: Workers) -> None:
    """Keeps the keys of the documents that stay, for a later revision."""
    index = index_folder(folder, work.revision)
    config = work.config.corpus.deduplicate
    save_index(config, work.read.folder, len(work.tasks), work.duplicates, index, workers)


def index_folder(folder: RunFolder, revision: int) -> Path:
    """Keys of the documents of one revision."""
    return folder.data / "index" / f"{revision:06d}"


def noting_examples(work: Work, task: int, documents: Iterable[Document], folder: Path) -> Iterator[Document]:
    """The task's documents; the beginnings of those that are shown as examples go into the folder."""
    wanted: dict[int, set[int]] = {}
    for _, *places in read_json(work.duplicates / PAIRS_FILE):
        for place in places:
            if place[0] == task:
                wanted.setdefault(place[1], set()).update(place[2:])
    noted: dict[str, str] = {}
    for index, document in enumerate(documents):
        if index in wanted:
            noted[str(index)] = document.text[:EXAMPLE_CHARACTERS]
            for number in wanted[index]:
                paragraph = split_paragraphs(document.text)[number][0].strip()
                noted[f"{index}/{number}"] = paragraph[:EXAMPLE_CHARACTERS]
        yield document
    if noted:
        write_json(folder / EXAMPLES_FILE, noted)


def tell_examples(work: Work, tokens: Pass, total: dict[str, Any]) -> None:
    """Adds to find_copies' figures the examples that noting_examples kept: where they are, and how they begin."""
    pairs = read_json(work.duplicates / PAIRS_FILE)
    firsts_of = _firsts(work, {place[0] for _, *places in pairs for place in places})
    for kind, dropped, kept in pairs:
        text, kept_text = _noted(tokens, dropped), _noted(tokens, kept)
        if len(dropped) > 2:  # a paragraph, and the same in the document that is kept
            kept_text = text
        sides = {"dropped": (dropped, text), "kept": (kept, kept_text)}
        told = {side: _shown(work, *one, firsts_of) for side, one in sides.items()}
        total["examples"].append({"kind": kind} | told)


def _noted(tokens: Pass, place: list[int]) -> str:
    """What the task has noted of a document or paragraph; "" of one of an index, or of a task that failed."""
    path = tokens.folder(place[0]) / EXAMPLES_FILE
    found = read_json(path) if place[0] >= 0 and path.exists() else {}
    return str(found.get("/".join(map(str, place[1:])), ""))


def _firsts(work: Work, wanted: set[int]) -> dict[int, tuple[Task, list[int]]]:
    """Of these tasks: the task, and the lines of its files before each of its spans."""
    return {number: (task, firsts) for number, task, _, firsts in reads_in_order(work, work.read) if number in wanted}


def _shown(work: Work, place: list[int], text: str, firsts_of: dict[int, tuple[Task, list[int]]]) -> dict[str, Any]:
    number, document = place[:2]
    if number < 0:
        return {"file": "an older revision", "line": None, "text": text}
    with (work.read.folder(number) / "places.npy").open("rb") as file:
        span, line = np.load(file, allow_pickle=False)[document].tolist()
    task, firsts = firsts_of[number]
    at = line_at(firsts[span], line)
    return {"file": task.spans[span].file.path, "line": at, "text": text}
