"""A Hugging Face fast tokenizer (WordPiece, BPE, Unigram) as a Codec: its tokenizer.json, renumbered.

Single-threaded: TOKENIZERS_PARALLELISM is set to false where one is made, for Ray gives each worker one core and a
fork after threads have started would hang.
"""

import os

from tokenizers import Tokenizer

from pipeline.base.errors import UserError
from pipeline.vocabulary.codec import Codec

SPECIALS = 5


class TokenizerCodec(Codec):
    """A tokenizer.json whose ids 0 to 4 are special. Raises UserError for any other content."""

    file_name = "tokenizer.json"
    kind = "Hugging Face tokenizer"

    def __init__(self, model: bytes, origin: str = "tokenizer") -> None:
        super().__init__(model, origin)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        try:
            self._tokenizer = Tokenizer.from_str(model.decode())
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{origin}: not a Hugging Face tokenizer.json, or a damaged one: {error}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        special = [added.get(index) for index in range(SPECIALS)]
        if not all(token is not None and token.special for token in special):
            raise UserError(
                f"{origin}: ids 0 to 4 are not its special tokens: it is not the tokenizer.json that preprocessing "
                "wrote. Copy that one from the run that made the data."
            )
        self.special_names = tuple(str(token.content) for token in special if token is not None)
        self.vocab_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self._tokenizer.encode_special_tokens = True  # their names in a text are text
        self._spelt = {index: self._spell(name) for index, name in enumerate(self.special_names) if index != 1}

    def encode(self, texts: list[str]) -> list[list[int]]:
        """See Codec.encode."""
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [self._without_specials(part.ids) for part in encoded]

    def decode(self, ids: list[list[int]]) -> list[str]:
        """See Codec.decode."""
        return self._tokenizer.decode_batch(ids, skip_special_tokens=True)

    def pieces(self) -> list[str]:
        """See Codec.pieces."""
        names = [""] * self.vocab_size
        for piece, index in self._tokenizer.get_vocab(with_added_tokens=True).items():
            names[index] = piece
        return names

    def _without_specials(self, ids: list[int]) -> list[int]:
        """The model's own vocabulary holds the names, and may find one in a text: it is spelt in other pieces then."""
        if not ids or self._spelt.keys().isdisjoint(ids):
            return ids
        return [part for index in ids for part in self._spelt.get(index, [index])]

    def _spell(self, name: str) -> list[int]:
        """Pieces of a special name's characters; unknown where a character is none."""
        prefix = getattr(self._tokenizer.model, "continuing_subword_prefix", None) or ""
        parts = [name[0], *(prefix + character for character in name[1:])]
        return [1 if (index := self._tokenizer.token_to_id(part)) is None else index for part in parts]
