"""Texts to ids and back for bulk work: one interface, two kinds of vocabulary; one process, one thread.

Ids 0 to 4 are padding, unknown, classifier, separator and mask, whatever the tokenizer calls them, and the name of one
in a text, such as "[MASK]", is ordinary text. Processes, not threads, are how to go faster: give each its own Codec
and long lists.
"""

import hashlib
from abc import ABC, abstractmethod
from typing import ClassVar

import sentencepiece
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_proto

from pipeline.base.errors import UserError
from pipeline.vocabulary.train import SPECIAL_PIECES

_PIECE = sentencepiece_proto.ModelProto.SentencePiece


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

    def decode(self, ids: list[list[int]]) -> list[str]:
        """See Codec.decode."""
        return self._processor.decode(ids, num_threads=1)

    def pieces(self) -> list[str]:
        """See Codec.pieces."""
        return [self._processor.id_to_piece(index) for index in range(self.vocab_size)]


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
