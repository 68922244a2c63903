"""What a corpus is made of, for data/statistics.json and the model card: documents by input file, letters by script."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from pipeline.corpus.documents import ReadReport, SpanCount
from pipeline.corpus.files import InputFile
from pipeline.corpus.tasks import Task

MOST_INPUTS = 100
"""Where there are more files they are joined by folder, and where there are more folders the smallest are joined."""


def inputs_of(
    files: Sequence[InputFile], tasks: Sequence[Task], reads: Sequence[ReadReport]
) -> list[dict[str, int | str]]:
    """{"input", "files", "bytes", "documents", "characters", "dropped"} of each input, in reading order."""
    counts: dict[str, Counter[str]] = {}
    names = {file.name for file in files}
    by_folder = len(names) > MOST_INPUTS

    def of(name: str) -> Counter[str]:
        return counts.setdefault(f"{PurePath(name).parent}/" if by_folder else name, Counter())

    for file in files:
        of(file.name).update({"files": 1, "bytes": file.size})
    for task, read in zip(tasks, reads, strict=True):
        for span, found in zip(task.spans, read.spans, strict=True):
            of(span.file.name).update(_fields(found))
    if len(counts) > MOST_INPUTS:
        counts = _largest(counts)
    fields = ("files", "bytes", *_fields(SpanCount()))
    return [{"input": name} | {field: count[field] for field in fields} for name, count in counts.items()]


def scripts_of(reads: Iterable[ReadReport]) -> dict[str, float]:
    """Share of each script among the sampled letters, largest first."""
    counts: Counter[str] = Counter()
    for read in reads:
        counts.update(read.scripts)
    total = counts.total()
    return {name: round(count / total, 6) for name, count in sorted(counts.items(), key=lambda item: (-item[1], item))}


def _fields(found: SpanCount) -> dict[str, int]:
    return {"documents": found.documents, "characters": found.characters, "dropped": found.dropped}


def _largest(counts: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    ordered = sorted(counts, key=lambda name: -counts[name]["characters"])
    kept = set(ordered[: MOST_INPUTS - 1])
    rest: Counter[str] = Counter()
    for name in ordered[MOST_INPUTS - 1 :]:
        rest.update(counts[name])
    return {name: count for name, count in counts.items() if name in kept} | {"others": rest}
