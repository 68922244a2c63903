"""WordPiece in google's released layout, a vocab.txt with a piece a line, as the tokenizer.json that it stands for.

It is what transformers makes of such a file: BERT's normaliser and splitting, lower case unless do_lower_case of the
tokenizer_config.json beside it is false. The frame of [CLS] and [SEP] is left to who renumbers it.
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from pipeline.base.errors import UserError
from pipeline.vocabulary.renumber import special_names

SUFFIX = ".txt"
OPTIONS = {
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
}
"""The normaliser's name of an option to tokenizer_config.json's; both take the same values by default."""


def word_piece_json(content: bytes, beside: Sequence[Mapping[str, Any]], origin: str) -> bytes:
    """A tokenizer.json with the file's pieces under their line numbers, from 0. Of equal lines the last one counts.

    beside: contents of tokenizer_config.json and special_tokens_map.json, as far as there are any. origin: the path,
    for messages. Raises UserError.
    """
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{origin}: not a vocab.txt, which is UTF-8 with a piece a line ({error.reason}).") from None
    pieces = {line.removesuffix("\r"): row for row, line in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    settings = ChainMap(*map(dict, beside))
    options = {name: settings[key] for name, key in OPTIONS.items() if key in settings}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token=special_names(pieces, beside)[1] or "[UNK]"))
    try:
        tokenizer.normalizer = normalizers.BertNormalizer(**options)
    except TypeError:
        raise UserError(
            f"{origin}: {' and '.join(OPTIONS.values())} of the tokenizer_config.json beside it are true or false, not "
            f"{list(options.values())}."
        ) from None
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer.to_str().encode()
