"""The Hugging Face twin of a SentencePiece model: an ordinary fast tokenizer, no custom code, the same ids.

For models of `pipeline.vocabulary.train` the ids are the same on any text (docs/export.md says why); for others they
are as near as the components of `tokenizers` come. The price: ten times slower than SentencePiece.
A special token's name in a text is that token, as users of `transformers` expect, and plain text with
`split_special_tokens=True`.
"""

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_proto
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pipeline.base.errors import UserError
from pipeline.vocabulary.codec import parse_model
from pipeline.vocabulary.reading import codec_of, is_json
from pipeline.vocabulary.tokenizer_json import TokenizerCodec
from pipeline.vocabulary.train import ALWAYS_CHARACTERS, NORMALISATION, SPECIAL_PIECES

SPACE = "\u2581"
"""What SentencePiece writes for a space."""

_BREAK = "\u0001"
"""A control character that most tables delete."""

_PIECE = sentencepiece_proto.ModelProto.SentencePiece


def fast_tokenizer(model: bytes, max_length: int, token_types: bool = True) -> PreTrainedTokenizerFast:
    """[CLS] A [SEP], or [CLS] A [SEP] B [SEP] with token types 0 and 1, over the pieces of a SentencePiece model.

    A tokenizer.json is such a tokenizer already, and frames a text in its own way.

    max_length: positions of the network, special tokens included. token_types: whether the network takes them.
    Raises UserError where `codec_of` does, and for kinds of model that `tokenizers` cannot follow.
    """
    codec = codec_of(model)
    pad, unknown, begin, end, mask = codec.special_names
    given = isinstance(codec, TokenizerCodec)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(model.decode()) if given else _backend(parse_model(model)),
        model_max_length=max_length,
        model_input_names=["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"],
        pad_token=pad,
        unk_token=unknown,
        cls_token=begin,
        sep_token=end,
        mask_token=mask,
        clean_up_tokenization_spaces=False,
    )


def has_exact_twin(model: bytes) -> bool:
    """Whether the ids are the same on any text: a tokenizer.json, or a unigram model of `pipeline.vocabulary.train`."""
    if is_json(model):
        return True
    proto = parse_model(model)
    return proto.normalizer_spec.name == NORMALISATION and proto.trainer_spec.model_type == proto.trainer_spec.UNIGRAM


def _backend(proto: sentencepiece_proto.ModelProto) -> Tokenizer:
    """The `tokenizers` pipeline: normaliser, split at spaces, model, template, decoder."""
    spec, trainer = proto.normalizer_spec, proto.trainer_spec
    if trainer.treat_whitespace_as_suffix or not spec.escape_whitespaces:
        raise UserError(
            "tokenizer: a SentencePiece model with treat_whitespace_as_suffix, or without escape_whitespaces, has no "
            "Hugging Face twin. Train one without these options."
        )
    tokenizer = Tokenizer(_bpe(proto) if trainer.model_type == trainer.BPE else _unigram(proto))
    tokenizer.normalizer = _normalizer(proto)
    prepend = "first" if spec.add_dummy_prefix else "never"
    tokenizer.pre_tokenizer = _splitter(proto, prepend)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(SPACE, prepend)])
    _, _, begin, end, _ = SPECIAL_PIECES
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin}:0 $A:0 {end}:0",
        pair=f"{begin}:0 $A:0 {end}:0 $B:1 {end}:1",
        special_tokens=[(name, SPECIAL_PIECES.index(name)) for name in (begin, end)],
    )
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIAL_PIECES])
    return tokenizer


def _normalizer(proto: sentencepiece_proto.ModelProto) -> normalizers.Normalizer:
    """SentencePiece's table of rules, then what it does to spaces.

    `Precompiled` looks up whole grapheme clusters of up to 5 bytes and, where only the start of one is in the table,
    loses the rest (U+00AA U+0301 becomes "a"). So clusters are broken first: _BREAK goes before everything but
    printable ASCII, and is deleted again. Rules of several code points, which our own tables do without, are lost by
    that; they compose characters, and NFC does nearly the same.
    """
    spec = proto.normalizer_spec
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        normal = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString()).normalize
        steps.append(normalizers.Replace(Regex(r"(?!\A)(?=[^\x20-\x7E])"), _BREAK))
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
        if _BREAK in normal(f"a{_BREAK}"):
            steps.append(normalizers.Replace(_BREAK, ""))
        if "\xe9" in normal("e\u0301"):
            steps.append(normalizers.NFC())
    if spec.add_dummy_prefix:
        first = SPACE if spec.remove_extra_whitespaces else f"[ {SPACE}]"
        steps.append(normalizers.Replace(Regex(rf"\A{first}"), SPACE * 2))
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
        steps.append(normalizers.Replace(Regex(rf"[ {SPACE}]+\z"), ""))
        if not spec.add_dummy_prefix:
            steps.append(normalizers.Replace(Regex(r"\A "), ""))
    return normalizers.Sequence(steps)


def _splitter(proto: sentencepiece_proto.ModelProto, prepend: str) -> pre_tokenizers.PreTokenizer:
    """Words, where no piece reaches over a space.

    Where a model cannot spell the name of a special or byte piece (ours always can), a text's "<0x0A>" would be looked
    up as that piece: such names are cut after their first character.
    """
    pieces = [piece.piece for piece in proto.pieces if piece.type in (_PIECE.NORMAL, _PIECE.USER_DEFINED)]
    words = pre_tokenizers.Metaspace(SPACE, prepend, split=not any(SPACE in piece[1:] for piece in pieces))
    if set(ALWAYS_CHARACTERS) <= set(pieces):
        return words
    names = "|".join(name[1:-1] for name in SPECIAL_PIECES)
    inside = Regex(rf"(?<=<)(?=0x[0-9A-F]{{2}}>)|(?<=\[)(?=({names})\])")
    return pre_tokenizers.Sequence([words, pre_tokenizers.Split(inside, "isolated")])


def _unigram(proto: sentencepiece_proto.ModelProto) -> models.Unigram:
    """Pieces with their scores; those that no text may become score too little ever to be on the best path.

    `tokenizers` looks up every piece in the text, special and byte pieces included; SentencePiece does not. The name of
    such a piece is given less than the sum of its characters.
    """
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == _PIECE.NORMAL}
    lowest, highest = min(scores.values()), max(scores.values())
    vocabulary = []
    for piece in proto.pieces:
        score = piece.score
        if piece.type == _PIECE.USER_DEFINED:
            score = len(piece.piece.encode("utf-8")) * highest - 0.1
        elif piece.type != _PIECE.NORMAL:
            score = sum(scores.get(character, lowest) for character in piece.piece) - 1.0
        vocabulary.append((piece.piece, score))
    unknown = SPECIAL_PIECES.index("[UNK]")
    return models.Unigram(vocabulary, unk_id=unknown, byte_fallback=proto.trainer_spec.byte_fallback)


def _bpe(proto: sentencepiece_proto.ModelProto) -> models.BPE:
    """Every way to make a piece from two others is a merge, in the order of the pieces' scores."""
    pieces = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    normal = [piece for piece in proto.pieces if piece.type in (_PIECE.NORMAL, _PIECE.USER_DEFINED)]
    known = {piece.piece for piece in normal}
    merges = [
        (piece.piece[:cut], piece.piece[cut:])
        for piece in sorted(normal, key=lambda piece: -piece.score)
        for cut in range(1, len(piece.piece))
        if piece.piece[:cut] in known and piece.piece[cut:] in known
    ]
    unknown = SPECIAL_PIECES[1]
    byte_fallback = proto.trainer_spec.byte_fallback
    return models.BPE(pieces, merges, unk_token=unknown, fuse_unk=True, byte_fallback=byte_fallback)
