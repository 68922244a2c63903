"""The texts to explain: one from the command line, or those of a file (.txt: one a line, .jsonl: {"text"} a line).

A page is read by a person: texts beyond PAGE_CHARACTERS are left out, and that is said. A single text is never cut.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.task_sections import ExplainConfig
from pipeline.tasks.formats.fields import text_of
from pipeline.tasks.formats.files import read_bytes
from pipeline.tasks.formats.jsonl import read_json_lines

PAGE_CHARACTERS = 1_000_000
FIELDS = ("text", "sentence")
PLAIN, LINES = (".txt",), (".jsonl", ".ndjson")
PACKED = (".gz", ".zst")


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
    suffix = (path.with_suffix("") if path.suffix in PACKED else path).suffix
    if suffix in LINES:
        places = ((f"{path}:{number}", record) for number, record in read_json_lines(path))
        texts = [Text(text_of(record, FIELDS, place), place) for place, record in places]
    elif suffix in PLAIN:
        texts = _read_lines(path)
    else:
        raise UserError(
            f"explain.file {path}: its name ends in none of {', '.join((*PLAIN, *LINES))} (each also with "
            f"{' or '.join(PACKED)}). Name it so that its kind can be told."
        )
    if not texts:
        raise UserError(f"explain.file {path} holds no text.")
    return texts


def _read_lines(path: Path) -> list[Text]:
    """A text a line; lines without a visible character are none."""
    texts = []
    for number, line in enumerate(read_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        place = f"{path}:{number}"
        try:
            text = line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at byte {error.start} of the line"
            raise UserError(f"{place}: not UTF-8 ({reason}). Convert the file.") from None
        if text.strip():
            texts.append(_checked(text, place))
    return texts


def _checked(text: str, place: str) -> Text:
    """UserError for a text without a visible character, or with half of a surrogate pair."""
    return Text(text_of({place: text}, (place,), place), place)
