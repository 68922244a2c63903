"""The texts to explain: one from the command line, or those of a file (.txt: one a line, .jsonl: {"text"} a line).

A page is read by a person: texts beyond PAGE_CHARACTERS are left out, and that is said. A single text is never cut.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.task_sections import ExplainConfig
from pipeline.tasks.formats.fields import text_of
from pipeline.tasks.formats.files import COMPRESSED, bare_suffix, read_text
from pipeline.tasks.formats.jsonl import read_json_lines

PAGE_CHARACTERS = 1_000_000
FIELDS = ("text", "sentence")
PLAIN, LINES = (".txt",), (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Text:
    """A text and where it is from."""

    text: str
    place: str
    """File and line, or the key."""


def read_texts(settings: ExplainConfig) -> tuple[list[Text], int]:
    """The texts in their order, and how many more the file holds than one page shows. Raises UserError."""
    if settings.text is not None and settings.file is not None:
        raise UserError("explain.text and explain.file are both set: give one of them.")
    if settings.text is not None:
        return [_checked(settings.text, "explain.text")], 0
    if settings.file is None:
        raise UserError('nothing to explain: set explain.text="A text", or explain.file to a .txt or .jsonl file.')
    texts = _read_file(Path(settings.file))
    shown, characters = 0, 0
    while shown < len(texts) and (shown == 0 or characters + len(texts[shown].text) <= PAGE_CHARACTERS):
        characters += len(texts[shown].text)
        shown += 1
    return texts[:shown], len(texts) - shown


def _read_file(path: Path) -> list[Text]:
    suffix = bare_suffix(path)
    if suffix in LINES:
        places = ((f"{path}:{number}", record) for number, record in read_json_lines(path))
        texts = [Text(text_of(record, FIELDS, place), place) for place, record in places]
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


def _checked(text: str, place: str) -> Text:
    """UserError for a text without a visible character, or with half of a surrogate pair."""
    return Text(text_of({"text": text}, ("text",), place), place)
