"""CSV and TSV with named columns: the first line is the header, every value a string.

CSV is RFC 4180's: commas, and double quotes around what holds a comma, a quote (doubled) or a line break. TSV has no
quoting, as IANA registers it and GLUE's files are written: quotes are text, and no value holds a tab or a line break.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.tasks.formats.files import read_text

_LONGEST_VALUE = 2**31 - 1
"""Characters; the csv module's own limit of 131,072 is less than a long document."""

_Rows = Iterator[tuple[int, list[str]]]


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by the header's names, with the line (from 1) that each begins on. Raises UserError."""
    return _named(path, _quoted_rows(path), "commas")


def read_tsv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by the header's names, with their line (from 1). Raises UserError."""
    return _named(path, _plain_rows(path), "tabs")


def _named(path: Path, rows: _Rows, separators: str) -> Iterator[tuple[int, dict[str, str]]]:
    names: list[str] | None = None
    for line, row in rows:
        if names is None:
            names = [name.strip() for name in row]
            _check_header(f"{path}:{line}", names, separators)
            continue
        if len(row) != len(names):
            hint = " Quotes mean nothing in a .tsv: save what holds tabs or line breaks as .csv or JSON lines."
            raise UserError(
                f"{path}:{line}: {len(row)} columns, but the header has {len(names)} ({', '.join(names)}). Columns are "
                f"separated by {separators}.{hint if separators == 'tabs' else ''}"
            )
        yield line, dict(zip(names, row, strict=True))


def _check_header(place: str, names: list[str], separators: str) -> None:
    for name in names:
        if not name or names.count(name) > 1:
            fault = f"the column {name!r} twice" if name else "a column without a name"
            raise UserError(f"{place}: the header has {fault}. The first line names every column, each once.")
    if len(names) == 1 and any(mark in names[0] for mark in "\t;,"):
        raise UserError(
            f"{place}: the header is one column, {names[0]!r}. Columns are separated by {separators}; finetune.format "
            "says csv or tsv where the file's suffix does not."
        )


def _quoted_rows(path: Path) -> _Rows:
    csv.field_size_limit(_LONGEST_VALUE)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}:{line}: broken CSV ({error}). A value that holds a quote is put in quotes, its own doubled."
            ) from None
        if row:
            yield line, row


def _plain_rows(path: Path) -> _Rows:
    for line, text in enumerate(re.split(r"\r\n|\r|\n", read_text(path)), start=1):
        if text.strip(" "):
            yield line, text.split("\t")
