"""JSON lines: a record a line. A range of bytes owns the lines that begin in it, so any cut gives the same records."""

import json
from collections.abc import Iterator
from typing import Any

from pipeline.corpus.lines import BOM, Line, is_blank, split_lines
from pipeline.corpus.records import Record, Tally, record_of, too_long
from pipeline.corpus.streams import Damage, read_chunks

_TYPES = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
    str: "a string",
}


def read_jsonl(
    path: str, packing: str, start: int, stop: int | None, field: str, limit: int, tally: Tally
) -> Iterator[Record]:
    """Records of the lines that begin in the bytes [start, stop) of the content; stop None: to the end."""
    lines = split_lines(read_chunks(path, packing, max(start - 1, 0)), limit, max(start - 1, 0))
    try:
        if start > 0:
            next(lines, None)  # the rest of the line that the byte before `start` belongs to
        for line in lines:
            if stop is not None and line.start >= stop:
                return
            tally.lines += 1
            if is_blank(line.content):
                continue
            record = parse_line(line, tally.lines, field, limit)
            if record.text is None and line.cut:
                tally.lines -= 1  # the damage below stands for it
                continue
            yield record
    except Damage as damage:
        tally.lines += 1
        yield Record(tally.lines, 0, reason=str(damage))


def parse_line(line: Line, number: int, field: str, limit: int) -> Record:
    """The record of one line that is not blank."""
    if line.content is None:
        return Record(number, line.size, reason=too_long(limit))
    try:
        value = _loads(line.content.removeprefix(BOM).decode())
    except UnicodeDecodeError as error:
        return Record(number, line.size, reason=f"invalid UTF-8: byte {error.start + 1} of the line")
    except json.JSONDecodeError as error:
        return Record(number, line.size, reason=f"broken JSON: {error.msg} at character {error.pos + 1}")
    except RecursionError:
        return Record(number, line.size, reason="broken JSON: nested too deeply")
    if not isinstance(value, dict):
        return Record(number, line.size, reason=f"not a JSON object: {_TYPES[type(value)]}")
    if field not in value:
        return Record(number, line.size, reason=f"no text field: {field!r} is missing")
    text = value[field]
    if not isinstance(text, str):
        return Record(number, line.size, reason=f"text field not a string: {field!r} is {_TYPES[type(text)]}")
    return record_of(number, line.size, text)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python converts
        return json.loads(text, parse_int=float)
