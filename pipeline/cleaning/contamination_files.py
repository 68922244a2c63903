"""Evaluation files: which there are, and every text in them. A broken file is the user's to mend: one fault ends it.

What the fields mean is not asked: all strings count, at any depth. So texts that are given as lists of tokens are found
too: the strings of a list count one by one and joined by spaces. Price: a file is held in memory as a whole.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import zstandard

from pipeline.base.errors import UserError
from pipeline.base.packing import unzstd
from pipeline.base.storage import Location, is_remote, place_of, reading

KINDS = (".jsonl", ".json", ".tsv", ".csv", ".txt")
PACKINGS = (".gz", ".zst")
WANTED = ".jsonl, .json, .tsv, .csv or .txt, each also .gz or .zst"
KEY = "corpus.decontaminate.paths"
_BOM = b"\xef\xbb\xbf"
_LONGEST_VALUE = 2**31 - 1
"""Characters of a CSV value; the csv module's own limit of 131,072 is less than a long document."""
_MAGIC = re.compile(r"[*?\[]")


def find_evaluation_files(paths: Sequence[str]) -> list[Location]:
    """The files of files, folders (searched recursively), globs and URLs, each once; in a folder or glob by path.

    Hidden files and files of other kinds are passed over where they are not named themselves. Raises UserError.
    """
    found: dict[str, Location] = {}
    for entry in paths:
        for file in _entry_files(entry, place_of(entry)):
            found.setdefault(str(file if is_remote(file) else file.resolve()), file)
    return list(found.values())


def names_of(files: Sequence[Location]) -> list[str]:
    """Names for people: the paths below the folder that all files share."""
    places = [str(file if is_remote(file) else file.absolute()).split("/") for file in files]
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*(p[:-1] for p in places), strict=False)))
    return ["/".join(place[shared:]) for place in places]


def texts_of(path: Location) -> Iterator[str]:
    """Every string of the file's records: all JSON strings that are no keys, all cells of a table.

    Of a .txt each line, and each run of lines that are not blank. Raises UserError with file and line.
    """
    kind = _kind_of(path.name)
    text = _read_text(path)
    if kind == ".txt":
        yield from _lines_and_runs(text)
    elif kind == ".tsv":
        yield from (cell for line in re.split(r"\r\n|\r|\n", text) for cell in line.split("\t"))
    elif kind == ".csv":
        yield from _csv_cells(path, text)
    else:
        values = _json_lines(path, text) if kind == ".jsonl" else _json_document(path, text)
        for value in values:
            yield from _strings(value)


def _entry_files(entry: str, place: Location) -> list[Location]:
    lists = not str(place).startswith(("http://", "https://"))  # a web server lists nothing
    with reading(place):
        if lists and place.is_dir():
            return _wanted(place.rglob("*"), place, f"the folder {entry} holds no file")
        if place.exists():
            if _kind_of(place.name) is None:
                raise UserError(f"{KEY}: {entry} is not {WANTED}. Convert it, or take it off the list.")
            return [place]
        if not lists or not _MAGIC.search(entry):
            looked = "" if is_remote(place) else f" (looked in {Path.cwd()})"
            raise UserError(f"{KEY}: {entry} does not exist{looked}. Mend the path.")
        base = place.parent
        while _MAGIC.search(str(base)):
            base = base.parent
        pattern = "/".join(place.parts[len(base.parts) :])
        return _wanted(base.glob(pattern), base, f"the glob {entry} matches no file")


def _wanted(places: Iterable[Location], base: Location, else_said: str) -> list[Location]:
    kept = []
    for place in sorted(places, key=str):
        hidden = any(part.startswith(".") for part in place.parts[len(base.parts) :])
        if not hidden and _kind_of(place.name) is not None and (is_remote(place) or place.is_file()):
            kept.append(place)
    if not kept:
        raise UserError(f"{KEY}: {else_said} that is {WANTED}. Mend the path.")
    return kept


def _kind_of(name: str) -> str | None:
    """The suffix that tells the format, that of the compression taken off; None for other kinds."""
    bare = name.lower()
    for packing in PACKINGS:
        bare = bare.removesuffix(packing)
    return next((kind for kind in KINDS if bare.endswith(kind)), None)


def _read_text(path: Location) -> str:
    with reading(path):
        data = path.read_bytes()
    try:
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
        elif path.name.lower().endswith(".zst"):
            data = unzstd(data)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{path} is not a whole {path.suffix} file ({error}). Copy or compress it again.") from None
    try:
        return data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 ({error.reason}). Save it as UTF-8.") from None


def _lines_and_runs(text: str) -> Iterator[str]:
    run: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.strip():
            run.append(line)
            yield line
        elif run:
            yield "\n".join(run)
            run = []


def _csv_cells(path: Location, text: str) -> Iterator[str]:
    csv.field_size_limit(_LONGEST_VALUE)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield from next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}:{line}: broken CSV ({error}). A value that holds a quote is put in quotes, its own doubled."
            ) from None


def _json_lines(path: Location, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _json(path, line, number)


def _json_document(path: Location, text: str) -> Iterable[Any]:
    """One document, or JSON lines where the first line is a value by itself and more follows."""
    first, _, rest = text.strip().partition("\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return [_json(path, text, 1)]
    return _json_lines(path, text) if rest else [_json(path, first, 1)]


def _json(path: Location, text: str, line: int) -> Any:
    try:
        return json.loads(text, parse_int=float)
    except json.JSONDecodeError as error:
        place = f"{path}:{line + error.lineno - 1}"
        raise UserError(f"{place}: broken JSON ({error.msg}, column {error.colno}). Mend the line.") from None
    except RecursionError:
        raise UserError(f"{path}:{line}: JSON that is nested too deeply.") from None


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
            among = [part for part in value if isinstance(part, str)]
            if len(among) > 1:
                yield " ".join(among)
