"""The target side's vocabulary: trained on the training targets, and matched with the source's piece by piece.

Promise: an ordinary fast tokenizer that spells any text (byte fallback). Price: SentencePiece takes some seconds, and
as many words as a small training file has make a vocabulary smaller than was asked for, which is told.
"""

from collections.abc import Sequence
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.base.sections import TokenizerConfig
from pipeline.vocabulary.fast import SPACE, fast_tokenizer
from pipeline.vocabulary.train import SizeError, train_tokenizer

SEED = 0
"""Of SentencePiece's draws: the vocabulary belongs to the data, not to a repetition."""


def train_target_vocabulary(targets: Sequence[str], size: int, max_length: int) -> tuple[Any, bytes]:
    """Fast tokenizer, and the SentencePiece model that it is the twin of; `size` pieces or as many as targets give.

    Raises UserError where `size` is too small for the targets' characters.
    """
    try:
        model = train_tokenizer(targets, TokenizerConfig(vocab_size=size), SEED)
    except SizeError as error:
        nearest = error.nearest
        if nearest > size:
            raise UserError(
                f"finetune.target_vocab_size {size} is too small: special pieces, 256 bytes and the characters of the "
                f"training targets need {nearest:,}. Set it to {nearest} or more."
            ) from error
        get_logger().info(
            f"{len(targets):,} training targets support at most {nearest:,} pieces: finetune.target_vocab_size is "
            f"{nearest} instead of {size}"
        )
        model = train_tokenizer(targets, TokenizerConfig(vocab_size=nearest), SEED)
    return fast_tokenizer(model, max_length, token_types=False), model


def shared_pieces(target: Any, source: Any) -> dict[int, int]:
    """Ids of `target` to ids of `source` for the pieces that both have, by what a piece spells and where in a word.

    Special tokens are matched by their role. WordPiece's "##ing" is SentencePiece's "ing", its "the" is "\u2581the";
    byte-level BPE's "\u0120the" is "\u2581the" too.
    """
    known: dict[str, int] = {}
    for piece, number in sorted(source.get_vocab().items(), key=lambda item: item[1]):
        for name in _spellings(piece, _kind(source)):
            known.setdefault(name, number)
    special = set(target.all_special_ids)
    shared = {
        number: known[piece]
        for piece, number in target.get_vocab().items()
        if number not in special and piece in known and known[piece] not in source.all_special_ids
    }
    for role in ("pad", "unk", "cls", "sep", "mask"):
        ours, theirs = (getattr(tokenizer, f"{role}_token_id") for tokenizer in (target, source))
        if ours is not None and theirs is not None:
            shared[ours] = theirs
    return dict(sorted(shared.items()))


def _kind(tokenizer: Any) -> str:
    return type(tokenizer.backend_tokenizer.model).__name__


def _spellings(piece: str, kind: str) -> tuple[str, ...]:
    """Names that SentencePiece has for a piece of another kind of vocabulary."""
    if kind == "Unigram" or SPACE in piece:
        return (piece,)
    if kind == "WordPiece":
        if piece.startswith("##"):
            return (piece[2:],)
        return (SPACE + piece,) if piece.isalnum() else (SPACE + piece, piece)
    if kind == "BPE":
        return (SPACE + piece[1:],) if piece.startswith("\u0120") else (piece,)
    return (piece, SPACE + piece)
