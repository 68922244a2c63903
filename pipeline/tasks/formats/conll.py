"""CoNLL files: a token a line, columns apart by tabs or spaces, a blank line after each sentence.

-DOCSTART- lines are dropped. So are comments: lines that begin with "#" before a sentence's first token, unless they
look like a token (as many columns as the file's others, and a tag in the tags' column).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FieldsConfig
from pipeline.tasks.formats.files import bare_suffix, read_text

TOKENS, TAGS, LINES = "tokens", "tags", "token_lines"
"""Fields of the records: the tokens, their tags, and the line that each is on."""
_TAG = re.compile(r"O|[A-Z]-\S+")
_BESIDES = re.compile(r"\d+[-.]\d+")
"""Numbers in CoNLL-U of what is not one word: several that are written as one, or one that is not written."""


def read_conll(path: Path, fields: FieldsConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    """Sentences as {"tokens", "tags", "token_lines"}, with the line (from 1) of their first token.

    Columns are counted from 0, negative ones from the end; by default the first holds tokens (in CoNLL-U, which numbers
    them there, the second) and the last tags. Raises UserError, also for tokens that are such numbers in another file,
    and for a line of more or fewer columns than the one before: the columns would not mean the same.
    """
    tokens, tags = _column(fields.tokens, 0, "tokens"), _column(fields.tags, -1, "tags")
    lines = read_text(path).split("\n")
    found = list(_sentences(path, lines, (tokens, tags)))
    universal = bare_suffix(path) == ".conllu"
    if fields.tokens is None and _numbers([record[TOKENS] for _, record in found], universal):
        if not universal:
            raise UserError(f"{path}:{found[0][0]}: column 0 holds token numbers: set finetune.fields.tokens=1.")
        found = list(_sentences(path, lines, (1, tags)))
    yield from found


def _sentences(path: Path, lines: list[str], chosen: tuple[int, int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records by the columns of tokens and tags. Raises UserError."""
    width: int | None = None
    rows: list[tuple[int, str, str]] = []
    for line, text in enumerate(lines, start=1):
        columns = _columns(text.removesuffix("\r"))
        if not columns or columns[0] == "-DOCSTART-":
            if rows:
                yield _record(rows)
            rows = []
            continue
        if not rows and columns[0].startswith("#") and _is_comment(columns, width, chosen[1]):
            continue
        width = width or len(columns)
        _check(columns, width, chosen, f"{path}:{line}")
        rows.append((line, columns[chosen[0]], columns[chosen[1]]))
    if rows:
        yield _record(rows)


def _numbers(sentences: list[list[str]], single: bool) -> bool:
    """Whether each sentence counts 1, 2, 3, ...; `single`: also where none has two words, and "1" may be one."""
    words = [[token for token in tokens if not _BESIDES.fullmatch(token)] for tokens in sentences]
    counted = all(found == [str(number) for number in range(1, len(found) + 1)] for found in words)
    return counted and (single or any(len(found) > 1 for found in words))


def _columns(text: str) -> list[str]:
    """Apart by tabs where there is one, else by runs of spaces (no other space: it may be a token)."""
    if not text.strip(" \t"):
        return []
    return text.split("\t") if "\t" in text else re.split(" +", text.strip(" "))


def _is_comment(columns: list[str], width: int | None, tags: int) -> bool:
    if width is not None and len(columns) != width:
        return True
    inside = -len(columns) <= tags < len(columns)
    return not (inside and len(columns) > 1 and _TAG.fullmatch(columns[tags]))


def _check(columns: list[str], width: int, chosen: tuple[int, int], place: str) -> None:
    if len(columns) != width:
        raise UserError(f"{place}: {len(columns)} columns, but the lines before have {width}.")
    for key, column in zip(("tokens", "tags"), chosen, strict=True):
        if not -width <= column < width:
            raise UserError(f"{place}: {width} columns, so there is no finetune.fields.{key} {column}.")
    if chosen[0] % width == chosen[1] % width:
        raise UserError(f"{place}: tokens and tags are both column {chosen[0] % width} of {width}. Each needs its own.")


def _column(value: str | None, default: int, key: str) -> int:
    try:
        return default if value is None else int(value)
    except ValueError:
        raise UserError(
            f"finetune.fields.{key} {value!r}: in a CoNLL file it is the number of a column, from 0, or from -1 at the "
            "end."
        ) from None


def _record(rows: list[tuple[int, str, str]]) -> tuple[int, dict[str, Any]]:
    lines, tokens, tags = (list(column) for column in zip(*rows, strict=True))
    return rows[0][0], {TOKENS: tokens, TAGS: tags, LINES: lines}
