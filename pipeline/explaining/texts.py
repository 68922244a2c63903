"""The texts to explain: one from the command line, or those of a file (.txt: one a line, .jsonl: an object a line).

An object has one text, or two that go together, under the names that fine-tuning reads (tasks/text_task.py). A page is
read by a person: texts beyond PAGE_CHARACTERS are left out, and that is said. A single text is never cut.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.task_sections import ExplainConfig, FieldsConfig
from pipeline.tasks.formats.fields import text_of
from pipeline.tasks.formats.files import COMPRESSED, bare_suffix, read_text
from pipeline.tasks.formats.jsonl import read_json_lines
from pipeline.tasks.text_task import texts_of

PAGE_CHARACTERS = 1_000_000
PLAIN, LINES = (".txt",), (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Text:
    """A text, or two that go together, and where they are from."""

    text: str
    place: str
    """File and line, or the key."""
    pair: str | None = None
    """The second text."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The text, or both."""
        return (self.text,) if self.pair is None else (self.text, self.pair)


def read_texts(settings: ExplainConfig, fields: FieldsConfig) -> tuple[list[Text], int]:
    """The texts in their order, and how many more the file holds than one page shows. Raises UserError.

    fields: what the classifier's own files called them; records without such fields are read by the usual names.
    """
    if settings.text is not None and settings.file is not None:
        raise UserError("explain.text and explain.file are both set: give one of them.")
    if settings.text is not None:
        return [_checked(settings.text, "explain.text")], 0
    if settings.file is None:
        raise UserError('nothing to explain: set explain.text="A text", or explain.file to a .txt or .jsonl file.')
    texts = _read_file(Path(settings.file), fields)
    sizes = itertools.accumulate(sum(map(len, text.parts)) for text in texts)
    shown = max(1, sum(size <= PAGE_CHARACTERS for size in sizes))
    return texts[:shown], len(texts) - shown


def _read_file(path: Path, fields: FieldsConfig) -> list[Text]:
    suffix = bare_suffix(path)
    if suffix in LINES:
        texts = [_of_record(record, fields, f"{path}:{number}") for number, record in read_json_lines(path)]
    elif suffix in PLAIN:
        lines = enumerate(read_text(path).split("\n"), start=1)
        texts = [_checked(line.removesuffix("\r"), f"{path}:{number}") for number, line in lines if line.strip()]
    else:
        raise UserError(
            f"explain.file {path}: its name ends in none of {', '.join((*PLAIN, *LINES))} (each also with "
            f"{' or '.join(COMPRESSED)}). Name it so that its kind can be told."
        )
    if not texts:
        raise UserError(f"explain.file {path} holds no text.")
    return texts


def _of_record(record: dict[str, Any], fields: FieldsConfig, place: str) -> Text:
    own = any(name in record for name in (fields.text, fields.pair))
    text, pair = texts_of(record, fields if own else FieldsConfig(), place)
    return Text(text, place, pair)


def _checked(text: str, place: str) -> Text:
    """UserError for a text without a visible character, or with half of a surrogate pair."""
    return Text(text_of({"text": text}, ("text",), place), place)
