"""Which row of another model's embedding holds a piece: by the piece's text, through the two tokenizers.

Between tokenizers of one kind the pieces themselves are compared. Across kinds a piece is its text and whether it
begins a word: WordPiece's "##ing" is SentencePiece's "ing", its "king" their "\\u2581king" and byte-level BPE's
"\\u0120king". Marks and ideographs, which some tokenizers always set apart, match either way.
"""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import decoders

from pipeline.vocabulary.codec import Codec
from pipeline.vocabulary.reading import is_json, read_renumbered
from pipeline.vocabulary.renumber import ROLES
from pipeline.vocabulary.tokenizer_json import TokenizerCodec

SPACE = "\u2581"
WORDPIECE, SENTENCEPIECE, BYTES, WORDS = "wordpiece", "sentencepiece", "bytes", "words"
Key = tuple[bool, str]
"""Whether the piece begins a word, and its text."""


@dataclass(frozen=True)
class Vocabulary:
    """Pieces with our special ids first, and where each stands in its own model's tables."""

    pieces: Sequence[str]
    rows: Sequence[int]
    """-1 for a piece that the model does not have."""
    convention: str
    """How a piece says that it begins a word."""


def vocabulary_of(codec: Codec) -> Vocabulary:
    """A run's own vocabulary."""
    return Vocabulary(codec.pieces(), range(codec.vocab_size), _convention(codec.model))


def file_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a tokenizer.json or vocab.txt as it was before we renumbered it. Raises UserError."""
    renumbered = read_renumbered(path)
    codec = TokenizerCodec(renumbered.model, str(path))
    return Vocabulary(codec.pieces(), renumbered.order, _convention(codec.model))


def folder_vocabulary(folder: Path) -> Vocabulary | None:
    """That of a Hugging Face folder: tokenizer.json, else the vocab.txt of WordPiece; None where there is neither."""
    for name in (TokenizerCodec.file_name, "vocab.txt"):
        if (folder / name).is_file():
            return file_vocabulary(folder / name)
    return None


def match_rows(ours: Vocabulary, theirs: Vocabulary) -> list[int]:
    """For each of our ids the row of their tables that holds the piece, -1 where none does."""
    specials = len(ROLES)
    rows = list(theirs.rows[:specials])
    if ours.convention == theirs.convention:
        known = {piece: row for piece, row in zip(theirs.pieces, theirs.rows, strict=True) if piece}
        return rows + [known.get(piece, -1) for piece in ours.pieces[specials:]]
    places: dict[Key, int] = {}
    for piece, row in zip(theirs.pieces[specials:], theirs.rows[specials:], strict=True):
        key = _key(piece, theirs.convention)
        if key is not None:
            places.setdefault(key, row)
    return rows + [_find(_key(piece, ours.convention), places) for piece in ours.pieces[specials:]]


def _find(key: Key | None, places: dict[Key, int]) -> int:
    if key is None:
        return -1
    row = places.get(key, -1)
    if row < 0 and all(_stands_alone(character) for character in key[1]):
        row = places.get((not key[0], key[1]), -1)
    return row


@lru_cache(maxsize=100_000)
def _stands_alone(character: str) -> bool:
    """Marks, symbols and ideographs: pieces of these are the same whether a space stands before them or not."""
    return unicodedata.category(character)[0] in "PS" or 0x3400 <= ord(character) <= 0x9FFF


def _key(piece: str, convention: str) -> Key | None:
    if convention == BYTES:
        piece = decoders.ByteLevel().decode([piece])
        if "\ufffd" in piece:
            return None  # part of a character
        begins, text = piece.startswith(" "), piece.removeprefix(" ")
    elif convention == SENTENCEPIECE:
        begins, text = piece.startswith(SPACE), piece.removeprefix(SPACE)
    elif convention == WORDPIECE:
        begins, text = not piece.startswith("##"), piece.removeprefix("##")
    else:
        begins, text = True, piece
    return (begins, text) if text else None


def _convention(model: bytes) -> str:
    if not is_json(model):
        return SENTENCEPIECE
    values = json.loads(model)
    if values["model"]["type"] == "WordPiece":
        return WORDPIECE
    parts = json.dumps([values.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")], ensure_ascii=False)
    if '"ByteLevel"' in parts:
        return BYTES
    return SENTENCEPIECE if SPACE in parts or '"Metaspace"' in parts else WORDS
