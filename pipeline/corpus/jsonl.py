"""JSON lines: a record a line. A range of bytes owns the lines that begin in it, so any cut gives the same records.

orjson reads a line in half the time that Python's json takes, and what it refuses json reads again: what is taken, and
the words of every reason, are json's. Price: a broken line is read twice.
"""

import json
from collections.abc import Iterator
from typing import Any

import orjson

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
    path: str,
    packing: str,
    start: int,
    stop: int | None,
    field: str,
    limit: int,
    tally: Tally,
    url_field: str = "",
) -> Iterator[Record]:
    """Records of the lines that begin in the bytes [start, stop) of the content; stop None: to the end.

    url_field: the field that says where a text comes from, where it is a string; "" for none.
    """
    lines = split_lines(read_chunks(path, packing, max(start - 1, 0), stop), limit, max(start - 1, 0))
    try:
        if start > 0:
            next(lines, None)  # the rest of the line that the byte before `start` belongs to
        for line in lines:
            if stop is not None and line.start >= stop:
                return
            tally.lines += 1
            if is_blank(line.content):
                continue
            record = parse_line(line, tally.lines, field, limit, url_field)
            if record.text is None and line.cut:
                tally.lines -= 1  # the damage below stands for it
                continue
            yield record
    except Damage as damage:
        tally.lines += 1
        yield Record(tally.lines, 0, reason=str(damage))


def parse_line(line: Line, number: int, field: str, limit: int, url_field: str = "") -> Record:
    """The record of one line that is not blank."""
    if line.content is None:
        return Record(number, line.size, reason=too_long(limit))
    content, decoded = line.content.removeprefix(BOM), True
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        try:
            value, decoded = _loads(content.decode()), False
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
    url = value.get(url_field) if url_field else None
    if not isinstance(url, str):
        url = ""
    elif not decoded:  # it may hold a lone surrogate, which could not be written down
        url = url.encode(errors="replace").decode()
    return record_of(number, line.size, text, url, decoded=decoded)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python converts
        return json.loads(text, parse_int=float)
