"""A Hugging Face fast tokenizer (WordPiece, BPE, Unigram) as a Codec: its tokenizer.json, renumbered.

Texts are encoded by a copy that does not know the special names: even where a model's own vocabulary lists "<s>", that
text is spelt in other pieces. Single-threaded: TOKENIZERS_PARALLELISM is set to false where one is made, for Ray gives
each worker one core.
"""

import json
import os
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from pipeline.base.errors import UserError
from pipeline.vocabulary.codec import Codec

SPECIALS = 5
UNKNOWN = 1
_HIDDEN = "\ufdd0{}\ufdd0"
"""Noncharacters of Unicode: a piece of this name is in no text."""


class TokenizerCodec(Codec):
    """A tokenizer.json whose ids 0 to 4 are special. Raises UserError for any other content."""

    file_name = "tokenizer.json"
    kind = "Hugging Face tokenizer"

    def __init__(self, model: bytes, origin: str = "tokenizer") -> None:
        super().__init__(model, origin)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        added = self._whole.get_added_tokens_decoder()
        special = [added.get(index) for index in range(SPECIALS)]
        if not all(token is not None and token.special for token in special):
            raise UserError(
                f"{origin}: ids 0 to 4 are not its special tokens: it is not the tokenizer.json that preprocessing "
                "wrote. Copy that one from the run that made the data."
            )
        self.special_names = tuple(str(token.content) for token in special if token is not None)
        self.vocab_size = max(self._whole.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, texts: list[str]) -> list[list[int]]:
        """See Codec.encode."""
        return [part.ids for part in self._plain.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: list[list[int]]) -> list[str]:
        """See Codec.decode."""
        return self._whole.decode_batch(ids, skip_special_tokens=True)

    def pieces(self) -> list[str]:
        """See Codec.pieces."""
        names = [""] * self.vocab_size
        for piece, index in self._whole.get_vocab(with_added_tokens=True).items():
            names[index] = piece
        return names

    @cached_property
    def _whole(self) -> Tokenizer:
        try:
            return Tokenizer.from_str(self.model.decode())
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{self.origin}: not a Hugging Face tokenizer.json, or a damaged one: {error}") from None

    @cached_property
    def _plain(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(json.dumps(_without_names(json.loads(self.model), self.special_names)))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # the names of other special tokens are text, too
        return tokenizer


def _without_names(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The tokenizer with its special pieces, but the unknown one, under names that no text has."""
    hidden = {name: _HIDDEN.format(index) for index, name in enumerate(names) if index != UNKNOWN}
    model = values["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [[hidden.get(piece, piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {hidden.get(piece, piece): index for piece, index in model["vocab"].items()}
    if model.get("merges"):
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if hidden.keys().isdisjoint([*pair, "".join(pair)])]
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] not in hidden]
    values["post_processor"] = None
    return values
