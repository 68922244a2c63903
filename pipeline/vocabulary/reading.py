"""Tokenizer files: which of the two kinds one is, a run's own, and one that the user gives (tokenizer.path).

A run's own file has our special ids already; a given tokenizer.json is renumbered on reading, so digests are always of
what it becomes.
"""

import hashlib
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.files import read_json
from pipeline.base.log import get_logger
from pipeline.vocabulary.codec import Codec, SentencePieceCodec
from pipeline.vocabulary.renumber import Renumbered, renumber
from pipeline.vocabulary.tokenizer_json import TokenizerCodec

BESIDE = ("tokenizer_config.json", "special_tokens_map.json")
"""Files beside a tokenizer.json that name its special tokens."""


def is_json(model: bytes) -> bool:
    """Whether the bytes are meant as a tokenizer.json; a SentencePiece model begins with another byte."""
    return model.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"


def codec_of(model: bytes, origin: str = "tokenizer") -> Codec:
    """The codec of a run's tokenizer, by its bytes. Raises UserError for what is neither kind."""
    return TokenizerCodec(model, origin) if is_json(model) else SentencePieceCodec(model, origin)


def load_codec(path: str | Path) -> Codec:
    """A run's own tokenizer file. Raises UserError for a missing, broken or unfit one."""
    return codec_of(_bytes(Path(path)), str(path))


def given_codec(path: str | Path) -> Codec:
    """The tokenizer that the user gives: a SentencePiece model, or a tokenizer.json, renumbered; or a folder with one.

    Raises UserError. What was added to a tokenizer.json is logged.
    """
    file = given_file(path)
    model = _bytes(file)
    if not is_json(model):
        return SentencePieceCodec(model, str(file))
    renumbered = read_renumbered(file)
    for note in renumbered.notes:
        get_logger().info(f"tokenizer {file}: {note}")
    return TokenizerCodec(renumbered.model, str(file))


def given_digest(path: str | Path) -> str:
    """sha256 of what the run's tokenizer file becomes when the user gives this one."""
    file = given_file(path)
    model = _bytes(file)
    return hashlib.sha256(read_renumbered(file).model if is_json(model) else model).hexdigest()


def given_file(path: str | Path) -> Path:
    """The file itself; in a folder, its tokenizer.json or tokenizer.model."""
    path = Path(path)
    if path.is_dir():
        for name in (TokenizerCodec.file_name, SentencePieceCodec.file_name):
            if (path / name).is_file():
                return path / name
    return path


def read_renumbered(path: Path) -> Renumbered:
    """A tokenizer.json with our special ids, named by the files beside it or by the usual names. Raises UserError."""
    beside = [read_json(path.parent / name) for name in BESIDE if (path.parent / name).is_file()]
    named = [values for values in beside if isinstance(values, dict)]
    return renumber(_bytes(path).removeprefix(b"\xef\xbb\xbf"), named, str(path))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the tokenizer: {error.strerror}. Check tokenizer.path.") from error
