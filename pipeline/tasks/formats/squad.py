"""SQuAD's JSON, versions 1.1 and 2 (Rajpurkar et al. 2016, 2018): articles, paragraphs, questions; as flat records.

Every record has the line that its question begins on: the layout is walked over with the standard decoder, which says
where a value ends. Price: a value is decoded once for each level that it lies in, some eight times.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.tasks.formats.fields import SURROGATE, check_record, kind_of
from pipeline.tasks.formats.files import read_text

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def read_squad(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """{"id", "title", "context", "question", "answers": {"text", "answer_start"}}; an unanswerable question has none.

    Yields each with its line, from 1. "is_impossible" is kept where a question has it. Raises UserError.
    """
    text = read_text(path)
    escaped = SURROGATE in text.lower()
    for line, record in _Walk(path, text).records():
        if escaped:
            check_record(record, f"{path}:{line}")
        yield line, record


def looks_like_squad(path: Path) -> bool:
    """Whether a .json file is one document of SQuAD's layout: JSON lines have a whole object on their first line."""
    first = next((line for line in read_text(path).split("\n") if line.strip()), "")
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return isinstance(record, dict) and isinstance(record.get("data"), list)


class _Walk:
    """A document, and how far its lines are counted: positions are asked for in ascending order."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        self._counted, self._line = 0, 1

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        whole = self.whole()
        if not isinstance(whole, dict) or "data" not in whole:
            raise UserError(
                f'{self.path}:1: no SQuAD file, which is {{"data": [articles]}}; other records are an object a line.'
            )
        for article, at in self.items(_skip(self.text, 0), "data"):
            for paragraph, inside in self.items(at, "paragraphs"):
                context = self.string(paragraph, "context", inside)
                for question, here in self.items(inside, "qas"):
                    record = {"title": article.get("title"), "context": context, "question": question.get("question")}
                    yield self.line(here), record | self.asked(question, here)

    def asked(self, question: dict[str, Any], at: int) -> dict[str, Any]:
        """Id and answers of a question; no answers where it has none and is not said to be impossible."""
        kept = {key: question[key] for key in ("is_impossible",) if key in question}
        if "answers" not in question and not question.get("is_impossible"):
            return {"id": question.get("id")} | kept
        answers = question.get("answers", [])
        if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
            raise UserError(f"{self.path}:{self.line(at)}: 'answers' is no list of objects.")
        columns = {key: [answer.get(key) for answer in answers] for key in ("text", "answer_start")}
        return {"id": question.get("id"), "answers": columns} | kept

    def items(self, at: int, key: str) -> Iterator[tuple[dict[str, Any], int]]:
        """Objects of the list that is the member `key` of the object at `at`, and where each begins."""
        members = dict(self.members(at))
        if key not in members:
            raise UserError(f"{self.path}:{self.line(at)}: no {key!r}; SQuAD's layout is data, paragraphs, qas.")
        place = members[key]
        if self.text[place] != "[":
            raise UserError(f"{self.path}:{self.line(place)}: {key!r} is not a list.")
        place = _skip(self.text, place + 1)
        while self.text[place] != "]":
            value, end = _DECODER.raw_decode(self.text, place)
            if not isinstance(value, dict):
                raise UserError(f"{self.path}:{self.line(place)}: {key!r} holds {kind_of(value)}, not only objects.")
            yield value, place
            place = _skip(self.text, end)
            if self.text[place] == ",":
                place = _skip(self.text, place + 1)

    def members(self, at: int) -> Iterator[tuple[str, int]]:
        """Names of the object at `at`, and where their values begin."""
        place = _skip(self.text, at + 1)
        while self.text[place] != "}":
            name, end = _DECODER.raw_decode(self.text, place)
            place = _skip(self.text, _skip(self.text, end) + 1)
            yield name, place
            _, end = _DECODER.raw_decode(self.text, place)
            place = _skip(self.text, end)
            if self.text[place] == ",":
                place = _skip(self.text, place + 1)

    def string(self, record: dict[str, Any], key: str, at: int) -> str:
        """A string that a paragraph must have."""
        value = record.get(key)
        if not isinstance(value, str):
            raise UserError(f"{self.path}:{self.line(at)}: a paragraph without {key!r}.")
        return value

    def whole(self) -> Any:
        """The whole document, which must be sound JSON with nothing behind it."""
        try:
            return json.loads(self.text)
        except json.JSONDecodeError as error:
            raise UserError(f"{self.path}:{error.lineno}: broken JSON ({error.msg}).") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.path}: broken JSON ({error}).") from None

    def line(self, at: int) -> int:
        """The line of a position, from 1."""
        if at < self._counted:
            return self.text.count("\n", 0, at) + 1
        self._line += self.text.count("\n", self._counted, at)
        self._counted = at
        return self._line


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
