"""Whether the input files still are what a run's tasks have read, or will read: by size, times, and where needed bytes.

A file that was only touched, or put back, is told by the digests of the parts that tasks have read. Price: such a file
is read once more.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import complete_file
from pipeline.base.run_folder import RunFolder
from pipeline.corpus.documents import ReadReport
from pipeline.corpus.files import InputFile
from pipeline.stages.preprocess_done import SHOWN, same_content
from pipeline.stages.preprocess_inputs import find_inputs
from pipeline.stages.preprocess_work import Pass, Work

Key = tuple[str, str]
"""Corpus and path of a file."""
Digests = dict[Key, list[list[Any]]]


def write_files(path: Path, files: Mapping[str, Sequence[InputFile]]) -> None:
    """Notes the input files of a run, a JSON line each."""
    with complete_file(path) as aside, open(aside, "w", encoding="utf-8") as out:
        for corpus, some in files.items():
            out.writelines(json.dumps([corpus, file.path, file.size, str(file.changed)]) + "\n" for file in some)


def _noted(path: Path) -> Iterator[tuple[Key, int, str]]:
    with path.open(encoding="utf-8") as file:
        for corpus, name, size, stamp in map(json.loads, file):
            yield (corpus, name), size, stamp


def digests_read(work: Work, passes: Iterable[Pass]) -> Digests:
    """[start, stop, sha256] of the parts of files that finished tasks have read."""
    found: Digests = {}
    for made in passes:
        done = sorted(number for number in made.finished() if number < len(work.tasks))
        for number, mark in zip(done, made.reports(done), strict=True):
            read = mark.get("read", mark)
            if "digests" not in read:
                continue
            task = work.tasks.task(number)
            for span, digest in zip(task.spans, ReadReport.of(read).digests, strict=True):
                part = [span.start, span.stop, digest]
                parts = found.setdefault((task.corpus, span.file.path), [])
                if digest and part not in parts:
                    parts.append(part)
    return found


def changed_files(work: Work, files: Mapping[str, Sequence[InputFile]], *, whole: bool) -> list[str]:
    """What is gone or has another content than the run began with; whole: all of every file has been read.

    New files are told where not everything has been read: they cannot be taken up in between.
    """
    now = {(corpus, file.path): file for corpus, some in files.items() for file in some}
    names = sorted(entry.name for entry in work.path.iterdir() if entry.name.startswith("tokens-"))
    passes = [work.read, *(Pass(work.path, name, work.id) for name in names)]
    digests: Digests | None = None
    changes, known = [], set()
    for key, size, stamp in _noted(work.path / "files.jsonl"):
        known.add(key)
        file = now.get(key)
        if file is None:
            changes.append(f"{key[1]} is gone")
        elif file.size != size:
            changes.append(f"{key[1]} had {size:,} bytes, has {file.size:,}")
        elif str(file.changed) != stamp:
            digests = digests_read(work, passes) if digests is None else digests
            parts = digests.get(key, [])
            if not same_content(file, parts) and (whole or parts):
                changes.append(f"{key[1]} has the same size, but another content")
    changes += [] if whole else [f"{path} is new" for corpus, path in now if (corpus, path) not in known]
    more = [f"... and {len(changes) - SHOWN} more files"] if len(changes) > SHOWN else []
    return changes[:SHOWN] + more


def check_unread_changes(work: Work, config: RunConfig, folder: RunFolder) -> None:
    """UserError where an input file has changed since the run began: then its tasks may have read either."""
    changes = changed_files(work, find_inputs(config, folder), whole=True)
    if changes:
        listed = "\n  ".join(changes)
        raise UserError(
            f"the corpus changed while it was read:\n  {listed}\nPut it back as it was, or add --fresh to begin anew "
            "once nothing writes to it."
        )
