"""Files of examples in any of the formats: (line, record), the format named by finetune.format or by the suffix."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.formats.conll import read_conll
from pipeline.tasks.formats.files import bare_suffix
from pipeline.tasks.formats.jsonl import read_json_lines
from pipeline.tasks.formats.squad import looks_like_squad, read_squad
from pipeline.tasks.formats.tables import read_csv, read_tsv

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv"} | dict.fromkeys(
    (".conll", ".conllu", ".iob", ".iob2", ".bio", ".bio2"), "conll"
)


def read_records(path: Path, settings: FinetuneConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records with the line (from 1) that each begins on; what they hold is the format's, unchecked.

    Raises UserError that names file and line for what cannot be read, and for a file without a record.
    """
    kind = format_of(path, settings)
    readers: dict[str, Callable[[Path], Iterator[tuple[int, dict[str, Any]]]]] = {
        "csv": read_csv,
        "tsv": read_tsv,
        "squad": read_squad,
        "conll": partial(read_conll, fields=settings.fields),
        "jsonl": partial(read_json_lines, advice="; of another format, name it in finetune.format"),
    }
    line = 0
    for line, record in readers[kind](path):
        yield line, record
    if line == 0:
        raise UserError(
            f"{path} holds no record: read as {kind} (finetune.format), it is empty but for blank lines, comments or a "
            "header. Fill it, or mend the path."
        )


def format_of(path: Path, settings: FinetuneConfig) -> str:
    """jsonl, csv, tsv, conll or squad: finetune.format, or by the suffix below .gz and .zst.

    A .json file is SQuAD's if it looks so; JSON lines are what everything else is taken for.
    """
    if settings.format != "auto":
        return settings.format
    suffix = bare_suffix(path)
    if suffix == ".json":
        return "squad" if looks_like_squad(path) else "jsonl"
    return SUFFIXES.get(suffix, "jsonl")
