"""JSON-lines files of a task, plain, .gz or .zst: (line number, object), or a UserError that names file and line.

A broken file of labelled examples is mended, not passed over: the first bad line ends the stage. Price: the file is
held in memory as a whole, since fine-tuning holds its examples anyway.
"""

import gzip
import json
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from pipeline.base.errors import UserError

_BOM = b"\xef\xbb\xbf"
_INVISIBLE = {"Zs", "Zl", "Zp", "Cc", "Cf"}


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of the file with their line numbers, from 1. Blank lines are no records; BOM and CRLF are accepted."""
    for number, line in enumerate(read_bytes(path).removeprefix(_BOM).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start} of the line).") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: broken JSON ({error}). Each line is one object.") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number}: not a JSON object, but {_kind(record)}. Each line is one object.")
        yield number, record


def read_bytes(path: Path) -> bytes:
    """The file's content, decompressed by its suffix; several members or frames are joined. Raises UserError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    try:
        if path.suffix == ".gz":
            return gzip.decompress(data)
        return _unzstd(data) if path.suffix == ".zst" else data
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{path} is not a whole {path.suffix} file ({error}). Copy or compress it again.") from None


def text_of(record: dict[str, Any], fields: tuple[str, ...], place: str) -> str:
    """The record's text: the first of `fields` that it has. UserError when it is missing, not a string, or blank."""
    field = next((name for name in fields if name in record), None)
    if field is None:
        raise UserError(f"{place}: no {' or '.join(map(repr, fields))}; the record has {_shown_keys(record)}.")
    text = record[field]
    if not isinstance(text, str):
        raise UserError(f"{place}: {field!r} is {_kind(text)}, not a string.")
    if all(unicodedata.category(character) in _INVISIBLE for character in text):
        raise UserError(f"{place}: {field!r} has no visible character.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{place}: {field!r} holds half of a surrogate pair, which is no text.")
    return text


def label_of(record: dict[str, Any], place: str) -> str:
    """The record's label as text: a string, or a whole number (1 and "1" are the same label). Raises UserError."""
    if "label" not in record:
        raise UserError(f"{place}: no 'label'; the record has {_shown_keys(record)}.")
    label = record["label"]
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise UserError(f"{place}: 'label' is {_kind(label)}, not a string or a whole number.")
    if not str(label).strip():
        raise UserError(f"{place}: 'label' is an empty string.")
    return str(label)


def _unzstd(data: bytes) -> bytes:
    parts = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(data))
        if not frame.eof:
            raise EOFError("the last frame is cut off")
        data = frame.unused_data
    return b"".join(parts)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown_keys(record: dict[str, Any]) -> str:
    return ", ".join(repr(key) for key in list(record)[:8]) or "no field"
