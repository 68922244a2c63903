"""Texts to ids and back for bulk work: one interface, two kinds of vocabulary; one process, one thread.

Ids 0 to 4 are padding, unknown, classifier, separator and mask, whatever the tokenizer calls them, and the name of one
in a text, such as "[MASK]", is ordinary text. Processes, not threads, are how to go faster: give each its own Codec
and long lists. `encode_flat` makes no Python object a token: a fifth (English) to a third (Chinese) faster than lists.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import sentencepiece
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_proto

from model.config import SEP_ID
from pipeline.base.errors import UserError
from pipeline.vocabulary.train import NORMALISATION, SCORE_STEP, SPECIAL_PIECES

PART = 1 << 13
"""Bytes that are encoded at once, where texts may be joined and cut: its lattice fits the cache."""
MARK = "\uedca".encode()
"""A private-use character; a text that has it is not joined with others."""

Array = np.ndarray[Any, np.dtype[Any]]

_PIECE = sentencepiece_proto.ModelProto.SentencePiece
_SPACE = "\u2581"


class Codec(ABC):
    """A checked vocabulary, which travels to workers by its bytes. `pipeline.vocabulary.reading` makes one."""

    file_name: ClassVar[str]
    """What the file is called in a run's tokenizer/ folder."""
    kind: ClassVar[str]
    """What it is, in words."""
    special_names: tuple[str, ...]
    """Of ids 0 to 4."""
    vocab_size: int
    """Rows of the embedding: the largest id, and one more."""

    def __init__(self, model: bytes, origin: str = "tokenizer") -> None:
        self.model, self.origin = model, origin
        self.sha256 = hashlib.sha256(model).hexdigest()

    def __reduce__(self) -> tuple[type, tuple[bytes, str]]:
        return type(self), (self.model, self.origin)

    @abstractmethod
    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, classifier and separator not added. No special id but the unknown's occurs."""

    def encode_flat(self, texts: Sequence[bytes], dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Ids of all texts one after the other, each text's followed by SEP_ID; and how many each has.

        texts: UTF-8. ids (tokens,) of `dtype`, lengths (texts,) int64, the separator counted. The ids are those of
        `encode`.
        """
        lists = self.encode([text.decode() for text in texts])
        lengths = np.fromiter(map(len, lists), np.int64, len(lists)) + 1
        flat = [index for ids in lists for index in (*ids, SEP_ID)]
        return np.array(flat, dtype), lengths

    @abstractmethod
    def decode(self, ids: list[list[int]]) -> list[str]:
        """Normalised text of each list of ids; special ids give nothing."""

    @abstractmethod
    def pieces(self) -> list[str]:
        """The piece of every id; "" where an id has none."""


class SentencePieceCodec(Codec):
    """A unigram or BPE model of SentencePiece. Raises UserError where `check_model` does."""

    file_name = "tokenizer.model"
    kind = "SentencePiece model"
    special_names = SPECIAL_PIECES

    def __init__(self, model: bytes, origin: str = "tokenizer") -> None:
        check_model(model, origin)
        super().__init__(model, origin)
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab_size = int(self._processor.get_piece_size())

    def encode(self, texts: list[str]) -> list[list[int]]:
        """See Codec.encode; with byte fallback nothing is unknown."""
        return self._processor.encode(texts, num_threads=1)

    def encode_flat(self, texts: Sequence[bytes], dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """See Codec.encode_flat.

        Short texts are joined by marks and long ones cut at spaces, so that neither cost more than others: a text of
        16 MB in one piece takes SentencePiece 300 MB.
        """
        if self._mark_ids is not None and texts:
            encoded = self._processor.encode(list(_parts(texts)), num_threads=1, return_type="numpy")
            ids, lengths = _split_at(self._mark_ids, np.concatenate(encoded, dtype=dtype, casting="unsafe"))
            if len(lengths) == len(texts):  # else a text has a mark of its own
                return ids, lengths
        encoded = self._processor.encode(list(texts), num_threads=1, return_type="numpy")
        separator = np.array([SEP_ID], np.int32)
        arrays = [array for ids in encoded for array in (ids, separator)]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1
        return np.concatenate([np.zeros(0, dtype), *arrays], dtype=dtype, casting="unsafe"), lengths

    @cached_property
    def _mark_ids(self) -> list[int] | None:
        """Ids of MARK, a space before it; None for a model whose texts cannot be joined and cut, see below.

        A text that is cut at spaces, and encoded part by part, has the same ids as in one piece where the model is of
        the kind that `pipeline.vocabulary.train` makes. Its normaliser looks at one code point at a time and begins
        every part with a space, so the parts' normal forms make up the whole's. No piece reaches over a space, so that
        the best path goes through the cuts. And sums of scores on SCORE_STEP's grid are exact in single precision
        (SentencePiece takes 100,000 nats off before they grow large), so that they compare alike. MARK is no piece nor
        part of one, so it is spelt in bytes, and bytes after 0xEE are nothing else.
        """
        proto = parse_model(self.model, self.origin)
        spec, trainer = proto.normalizer_spec, proto.trainer_spec
        spaces = spec.add_dummy_prefix and spec.remove_extra_whitespaces and spec.escape_whitespaces
        ours = spec.name == NORMALISATION and trainer.model_type == trainer.UNIGRAM and trainer.byte_fallback
        mark = MARK.decode()
        if (
            not (spaces and ours)
            or trainer.treat_whitespace_as_suffix
            or any(piece.type == _PIECE.USER_DEFINED for piece in proto.pieces)
            or any(_SPACE in piece.piece[1:] or mark in piece.piece for piece in proto.pieces)
            or any(piece.score % SCORE_STEP for piece in proto.pieces)
        ):
            return None
        ids: list[int] = self._processor.encode(mark)
        expected = [_SPACE, *(f"<0x{byte:02X}>" for byte in MARK)]
        return ids if [self._processor.id_to_piece(index) for index in ids] == expected else None

    def decode(self, ids: list[list[int]]) -> list[str]:
        """See Codec.decode."""
        return self._processor.decode(ids, num_threads=1)

    def pieces(self) -> list[str]:
        """See Codec.pieces."""
        return [self._processor.id_to_piece(index) for index in range(self.vocab_size)]


def _parts(texts: Sequence[bytes]) -> Iterator[bytes]:
    """The texts, each with a mark after it, in parts of about PART bytes."""
    joint = b" %b " % MARK
    group: list[bytes] = []
    size = 0
    for text in texts:
        *heads, tail = cut_at_spaces(text, PART) if len(text) > PART else (text,)
        if size + len(text) > PART and group:
            yield joint.join([*group, b""])
            group, size = [], 0
        yield from heads
        group.append(tail)
        size += len(tail)
    yield joint.join([*group, b""])


def cut_at_spaces(text: bytes, most: int) -> Iterator[bytes]:
    """Parts of at most `most` bytes, where there is a space or a line break in the second half of each to cut at.

    The space is left out; the rest of a text without one stays whole up to its next.
    """
    start = 0
    while len(text) - start > most:
        middle, end = start + most // 2, start + most
        cut = max(text.rfind(b" ", middle, end), text.rfind(b"\n", middle, end))
        if cut < 0:
            found = [at for at in (text.find(b" ", end), text.find(b"\n", end)) if at >= 0]
            if not found:
                break
            cut = min(found)
        yield text[start:cut]
        start = cut + 1
    yield text[start:]


def _split_at(mark_ids: Sequence[int], ids: Array) -> tuple[Array, Array]:
    """The ids with SEP_ID in the place of every run of mark_ids, and the lengths of what these end."""
    size = len(mark_ids)
    second = np.flatnonzero(ids == mark_ids[1])  # the first is a space, of which there are many
    marks = second[second + size - 1 <= len(ids)] - 1
    for place, index in enumerate(mark_ids):
        marks = marks[ids[marks + place] == index]
    kept = np.ones(len(ids), bool)
    for place in range(1, size):
        kept[marks + place] = False
    ids[marks] = SEP_ID
    return ids[kept], np.diff(marks, prepend=-size) - size + 1


def check_model(model: bytes, origin: str = "tokenizer") -> None:
    """Raises UserError unless `model` is a unigram or BPE model with the special pieces as ids 0 to 4.

    origin: what the message calls the model, a path for one.
    """
    proto = parse_model(model, origin)
    kind = proto.trainer_spec.model_type
    if kind not in (proto.trainer_spec.UNIGRAM, proto.trainer_spec.BPE):
        name = sentencepiece_proto.TrainerSpec.ModelType.Name(kind)
        raise UserError(f"{origin}: a SentencePiece model of type {name}; unigram and BPE models can be used.")
    found = tuple(piece.piece for piece in proto.pieces[: len(SPECIAL_PIECES)])
    if found != SPECIAL_PIECES:
        raise UserError(
            f"{origin}: the first pieces are {' '.join(found)}; needed are {' '.join(SPECIAL_PIECES)} as ids 0 to 4. "
            "Train it with pad_id=0 unk_id=1 bos_id=2 eos_id=3, these names, and [MASK] as the first control symbol; "
            "or leave tokenizer.path out, and one is trained."
        )
    for index, piece in enumerate(proto.pieces[: len(SPECIAL_PIECES)]):
        needed = _PIECE.UNKNOWN if index == 1 else _PIECE.CONTROL
        if piece.type != needed:
            raise UserError(
                f"{origin}: {piece.piece} is of type {_PIECE.Type.Name(piece.type)}, not {_PIECE.Type.Name(needed)}: "
                f"a text that contains {piece.piece} would get id {index}. Train it as a control symbol."
            )


def parse_model(model: bytes, origin: str = "tokenizer") -> sentencepiece_proto.ModelProto:
    """The model as a protocol buffer. Raises UserError when the bytes are no model."""
    try:
        proto = sentencepiece_proto.ModelProto.FromString(model)
    except DecodeError as error:
        raise UserError(f"{origin}: not a SentencePiece model, or a damaged one.") from error
    if not proto.pieces:
        raise UserError(f"{origin}: not a SentencePiece model: it has no pieces.")
    try:
        sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise UserError(f"{origin}: SentencePiece does not take this model: {error}") from error
    return proto
