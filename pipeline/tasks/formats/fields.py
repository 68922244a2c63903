"""What a record's fields hold, checked: a value of the right kind, or a UserError that names file, line and field."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FieldsConfig

SURROGATE = r"\ud"
"""How JSON begins to spell half of a surrogate pair, in small letters."""
LARGEST_SCORE = 1e15
"""Squares of what is larger, summed, overflow in single precision."""
_INVISIBLE = {"Zs", "Zl", "Zp", "Cc", "Cf"}


class Names(tuple[str, ...]):
    """Names of a field to look for."""

    key = ""
    """The key of finetune.fields that says another."""
    numbered: tuple[str, ...] = ()
    """What whole numbers in the field stand for, from 0."""


def choices(fields: FieldsConfig, key: str, usual: Sequence[str]) -> Names:
    """Names of a field to look for: the one that finetune.fields gives, else the usual ones."""
    named = getattr(fields, key)
    names = names_of(key, (named,) if named else usual)
    if key == "tags":
        names.numbered = fields.tag_names or ()
    return names


def names_of(key: str, names: Sequence[str]) -> Names:
    """These names, of what finetune.fields.KEY may name otherwise."""
    found = Names(names)
    found.key = key
    return found


def field_of(record: dict[str, Any], fields: Sequence[str], place: str) -> str:
    """The first of `fields` that the record has. Raises UserError."""
    field = next((name for name in fields if name in record), None)
    if field is None:
        hint = f" Name it by finetune.fields.{fields.key}." if isinstance(fields, Names) else ""
        raise UserError(f"{place}: no {' or '.join(map(repr, fields))}; the record has {_shown_keys(record)}.{hint}")
    return field


def text_of(record: dict[str, Any], fields: Sequence[str], place: str, *, blank: bool = False) -> str:
    """The record's text: the first of `fields` that it has. UserError when it is missing or not a string.

    Or without a visible character, unless it may be `blank`.
    """
    field = field_of(record, fields, place)
    text = record[field]
    if not isinstance(text, str):
        raise UserError(f"{place}: {field!r} is {kind_of(text)}, not a string.")
    if not blank and all(unicodedata.category(character) in _INVISIBLE for character in text):
        raise UserError(f"{place}: {field!r} has no visible character.")
    check_characters(text, field, place)
    return text


def label_of(record: dict[str, Any], fields: Sequence[str], place: str) -> str:
    """The record's label as text: a string without the space around it, a whole number, or true or false.

    1, 1.0 and "1" are the same label, and so are true and "true". Raises UserError.
    """
    field = field_of(record, fields, place)
    label = record[field]
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if not isinstance(label, int | str):
        raise UserError(f"{place}: {field!r} is {kind_of(label)}, not a string or a whole number.")
    text = str(label).strip()
    if not text:
        raise UserError(f"{place}: {field!r} is an empty string.")
    return text


def score_of(record: dict[str, Any], names: Sequence[str], place: str) -> float:
    """A number up to LARGEST_SCORE in size, or a string that spells one (CSV, TSV). Raises UserError."""
    field = field_of(record, names, place)
    value = record[field]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UserError(f"{place}: {field!r} is {kind_of(value)}, not a number.")
    try:
        score = float(value.replace("_", "?") if isinstance(value, str) else value)  # to Python alone 1_0 is 10
    except (ValueError, OverflowError):
        raise UserError(f"{place}: {field!r} is {value!r}, not a number.") from None
    if not math.isfinite(score):
        raise UserError(f"{place}: {field!r} is {value!r}, not a finite number.")
    if abs(score) > LARGEST_SCORE:
        raise UserError(f"{place}: {field!r} is {value!r}; scores are at most {LARGEST_SCORE:g} in size. Scale them.")
    return score


def strings_of(record: dict[str, Any], fields: Sequence[str], place: str) -> list[str]:
    """A list of strings; a string (of a CSV or TSV file) is split at spaces. Raises UserError.

    Tags may be numbers of finetune.fields.tag_names.
    """
    field = field_of(record, fields, place)
    values = record[field]
    if isinstance(values, str):
        values = values.split()
    if not isinstance(values, list):
        raise UserError(f"{place}: {field!r} is {kind_of(values)}, not a list of strings.")
    names = fields if isinstance(fields, Names) else Names(fields)
    return [_string_of(value, names, f"{place}: {field!r}", number) for number, value in enumerate(values, start=1)]


def _string_of(value: Any, names: Names, place: str, number: int) -> str:
    """An item of a list of strings; `number` is its place from 1."""
    if names.numbered and (type(value) is int or (isinstance(value, str) and value.isdecimal())):
        if not 0 <= int(value) < len(names.numbered):
            last = len(names.numbered) - 1
            raise UserError(
                f"{place} holds {value} (its item {number}), but finetune.fields.tag_names names 0 to {last}."
            )
        return names.numbered[int(value)]
    if not isinstance(value, str):
        hint = ""
        if names.key == "tags" and type(value) is int:
            hint = " Name what the numbers stand for, from 0: finetune.fields.tag_names=[O, B-PER, ...]."
        raise UserError(f"{place} holds {kind_of(value)} (its item {number}), not strings only.{hint}")
    return value


def check_characters(text: str, field: str, place: str) -> None:
    """UserError for half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{place}: {field!r} holds half of a surrogate pair, which is no text.")


def check_record(record: dict[str, Any], place: str) -> None:
    """The same of all strings of a record, since what is written back, names and ids too, has to be UTF-8."""
    for field, value in record.items():
        left = [field, value]
        while left:
            one = left.pop()
            if isinstance(one, str):
                check_characters(one, field, place)
            elif isinstance(one, dict):
                left += [*one, *one.values()]
            elif isinstance(one, list):
                left += one


def kind_of(value: Any) -> str:
    """What JSON calls the value, for messages."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown_keys(record: dict[str, Any]) -> str:
    shown = [key if len(key) <= 40 else f"{key[:39]}…" for key in list(record)[:8]]
    return ", ".join(map(repr, shown)) or "no field"
