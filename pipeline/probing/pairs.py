"""Sets of pairs of texts of which one should be preferred: from files of JSON lines, or made by this pipeline's probes.

Every line is checked before anything is scored; a line that is no pair ends the stage with its file and number.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.base.errors import UserError
from pipeline.tasks.formats.fields import label_of, text_of
from pipeline.tasks.formats.jsonl import read_json_lines

GOOD_FIELDS, BAD_FIELDS = ("good", "sentence_good"), ("bad", "sentence_bad")
PHENOMENON_FIELDS = ("phenomenon", "UID", "linguistics_term")
"""Of these, as of the others, the first that a record has; those after the first are BLiMP's (Warstadt et al. 2020)."""
SUFFIXES = re.compile(r"(\.(jsonl|json|ndjson))?(\.(gz|zst))?$", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """Two texts; `good` should be preferred. In a bias probe `good` is the stereotype, and neither should be."""

    good: str
    bad: str
    phenomenon: str
    line: int
    """In its file; of a probe: its place, from 1."""
    group: str | None = None
    """Bias probes: "male" or "female", whom the stereotype expects."""


@dataclass(frozen=True)
class PairSet:
    """Pairs under one name."""

    name: str
    source: str
    """The file, or "built in"."""
    kind: Literal["grammar", "bias"]
    pairs: Sequence[Pair]

    @property
    def phenomena(self) -> list[str]:
        """Names, in the order of their first pair."""
        return list(dict.fromkeys(pair.phenomenon for pair in self.pairs))

    @property
    def sha256(self) -> str:
        """Of everything that is scored and of what it is called."""
        rows = [[pair.good, pair.bad, pair.phenomenon, pair.line, pair.group] for pair in self.pairs]
        return hashlib.sha256(json.dumps([self.kind, rows]).encode()).hexdigest()

    def place(self, pair: Pair) -> str:
        """File and line of a pair, for messages."""
        return f"{self.source}:{pair.line}"

    def as_records(self) -> list[dict[str, Any]]:
        """Objects that `read_pairs` reads back from a file of JSON lines."""
        return [{"good": pair.good, "bad": pair.bad, "phenomenon": pair.phenomenon} for pair in self.pairs]


def read_pairs(path: Path) -> PairSet:
    """{"good", "bad"} a line (or BLiMP's names), perhaps the phenomenon; plain, .gz or .zst. Raises UserError."""
    name = SUFFIXES.sub("", path.name) or path.name
    pairs = [_pair(record, f"{path}:{line}", line, name) for line, record in read_json_lines(path)]
    if not pairs:
        raise UserError(f'{path} holds no pair: each line is {{"good": "a text", "bad": "a worse one"}}.')
    return PairSet(name, str(path), "grammar", pairs)


def read_files(paths: Sequence[Path]) -> list[PairSet]:
    """A set a file, named by the file, or by its path where two files have one name. Raises UserError."""
    sets = [read_pairs(path) for path in dict.fromkeys(paths)]
    names = [one.name for one in sets]
    return [
        one if names.count(one.name) == 1 else PairSet(SUFFIXES.sub("", one.source), one.source, one.kind, one.pairs)
        for one in sets
    ]


def _pair(record: dict[str, Any], place: str, line: int, default: str) -> Pair:
    good, bad = text_of(record, GOOD_FIELDS, place), text_of(record, BAD_FIELDS, place)
    field = next((name for name in PHENOMENON_FIELDS if record.get(name) is not None), None)
    phenomenon = default if field is None else label_of(record, (field,), place)
    return Pair(good, bad, " ".join(phenomenon.split()), line)  # in tables of several kinds it is one line
