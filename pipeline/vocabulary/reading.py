"""Tokenizer files: which of the kinds one is, a run's own, and one that the user gives (tokenizer.path).

A run's own file is a SentencePiece model or a tokenizer.json and has our special ids already; a given tokenizer.json or
vocab.txt is renumbered on reading, so digests are always of what it becomes.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import UserError
from pipeline.base.files import is_remote, read_json
from pipeline.base.log import get_logger
from pipeline.vocabulary.codec import Codec, SentencePieceCodec
from pipeline.vocabulary.renumber import Renumbered, renumber
from pipeline.vocabulary.tokenizer_json import TokenizerCodec
from pipeline.vocabulary.vocab_txt import SUFFIX, word_piece_json

if TYPE_CHECKING:
    from pipeline.base.storage import Location

BESIDE = ("tokenizer_config.json", "special_tokens_map.json")
"""Files beside a tokenizer.json or vocab.txt that name its special tokens."""
FILES = (TokenizerCodec.file_name, SentencePieceCodec.file_name, f"vocab{SUFFIX}")
"""What is looked for in a folder, the best first."""


def is_json(model: bytes) -> bool:
    """Whether the bytes are meant as a tokenizer.json; a SentencePiece model begins with another byte."""
    return model.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"


def codec_of(model: bytes, origin: str = "tokenizer") -> Codec:
    """The codec of a run's tokenizer, by its bytes. Raises UserError for what is neither kind."""
    return TokenizerCodec(model, origin) if is_json(model) else SentencePieceCodec(model, origin)


def load_codec(path: "str | Location") -> Codec:
    """A run's own tokenizer file. Raises UserError for a missing, broken or unfit one."""
    return codec_of(_bytes(Path(path) if isinstance(path, str) else path), str(path))


def given_codec(path: str | Path) -> Codec:
    """The tokenizer given, or that of a folder: a SentencePiece model; or a tokenizer.json or vocab.txt, renumbered.

    Raises UserError. What was added to a tokenizer.json is logged.
    """
    file = given_file(path)
    if not is_hugging_face(file):
        return SentencePieceCodec(_bytes(file), str(file))
    renumbered = read_renumbered(file)
    for note in renumbered.notes:
        get_logger().info(f"tokenizer {file}: {note}")
    return TokenizerCodec(renumbered.model, str(file))


def given_digest(path: str | Path) -> str:
    """sha256 of what the run's tokenizer file becomes when the user gives this one."""
    file = given_file(path)
    model = read_renumbered(file).model if is_hugging_face(file) else _bytes(file)
    return hashlib.sha256(model).hexdigest()


def given_file(path: str | Path) -> Path:
    """The file itself; in a folder, the first of FILES that it has; the folder, where it has none."""
    path = Path(path)
    return next((path / name for name in FILES if (path / name).is_file()), path)


def is_hugging_face(file: Path) -> bool:
    """Whether a given file is a tokenizer.json or vocab.txt, no SentencePiece model. Raises UserError."""
    return file.suffix == SUFFIX or is_json(_bytes(file))


def read_renumbered(file: Path) -> Renumbered:
    """A tokenizer.json or vocab.txt with our special ids, which the files beside it name, or their usual names.

    Raises UserError.
    """
    found = [read_json(file.parent / name) for name in BESIDE if (file.parent / name).is_file()]
    beside: list[dict[str, Any]] = [values for values in found if isinstance(values, dict)]
    content = _bytes(file).removeprefix(b"\xef\xbb\xbf")
    if file.suffix == SUFFIX:
        content = word_piece_json(content, beside, str(file))
    return renumber(content, beside, str(file))


def _bytes(path: "Location") -> bytes:
    if is_remote(path):
        from pipeline.base.storage import reading

        with reading(path):
            return path.read_bytes()
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise UserError(f"{path}: a folder without {', '.join(FILES)}. Check tokenizer.path.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the tokenizer: {error.strerror}. Check tokenizer.path.") from error
