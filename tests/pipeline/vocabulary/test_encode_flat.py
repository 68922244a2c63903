"""encode_flat: the ids of encode, and separators; texts joined and cut at spaces have the ids that they have alone."""

import random
from typing import Any

import numpy as np
import pytest

from model.config import SEP_ID
from pipeline.base.sections import TokenizerConfig
from pipeline.vocabulary import codec as codec_module
from pipeline.vocabulary.codec import MARK, Codec, SentencePieceCodec, cut_at_spaces
from pipeline.vocabulary.fast import fast_tokenizer
from pipeline.vocabulary.tokenizer_json import TokenizerCodec
from pipeline.vocabulary.train import train_tokenizer
from tests.pipeline.vocabulary.generated_text import ODD, make_documents
from tests.pipeline.vocabulary.test_codec import IDS, NAMES, train


@pytest.fixture(scope="module")
def model() -> bytes:
    return train_tokenizer(make_documents(300), TokenizerConfig(vocab_size=500), seed=0)


def odd_texts(count: int, most: int) -> list[str]:
    """Words and strings that tokenizers stumble over, in any order."""
    draw = random.Random(7)
    words = [*ODD, *" \n", *make_documents(3, seed=9)[0].split()]
    return ["".join(draw.choices(words, k=draw.randrange(most))) for _ in range(count)]


def check(codec: Codec, texts: list[str], dtype: str) -> None:
    ids, lengths = codec.encode_flat([text.encode() for text in texts], np.dtype(dtype))
    expected = [[*ids, SEP_ID] for ids in codec.encode(texts)]
    assert ids.dtype == np.dtype(dtype)
    assert lengths.tolist() == [len(one) for one in expected]
    assert ids.tolist() == [index for one in expected for index in one]


@pytest.mark.parametrize("texts", [[], [""], ["", "bada ko", ""], make_documents(40, seed=3)], ids=len)
def test_ids_of_encode(model: bytes, texts: list[str]) -> None:
    check(SentencePieceCodec(model), texts, "<u2")
    check(SentencePieceCodec(model), texts, "<u4")
    whole = fast_tokenizer(model, 512).backend_tokenizer.to_str().encode()
    check(TokenizerCodec(whole), texts, "<u2")


@pytest.mark.parametrize("part", [1, 2, 8, 30, 1000])
def test_joined_and_cut_texts_have_their_own_ids(model: bytes, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(codec_module, "PART", part)
    codec = SentencePieceCodec(model)
    assert codec._mark_ids is not None
    check(codec, [*make_documents(20, seed=4), *odd_texts(600, 12), *odd_texts(60, 200)], "<u2")
    mark = MARK.decode()
    check(codec, ["bada", f"a{mark}", mark, "", f" {mark} ", "ko"], "<u2")
    check(codec, [mark[:0], "\uedcb", "\uedc9 \uedcb"], "<u2")


def test_a_very_long_text_is_cut(model: bytes) -> None:
    words = " ".join(make_documents(300, seed=6))
    text = words * (3 * codec_module.PART // len(words.encode()) + 1)
    assert len(list(cut_at_spaces(text.encode(), codec_module.PART))) > 3
    check(SentencePieceCodec(model), [text, "ko", text[1:]], "<u2")


@pytest.mark.parametrize(
    "options",
    [{}, {"model_type": "bpe"}, {"normalization_rule_name": "identity"}, {"remove_extra_whitespaces": False}],
    ids=str,
)
def test_models_of_others_are_not_joined(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    monkeypatch.setattr(codec_module, "PART", 8)
    codec = SentencePieceCodec(train(**options, **IDS, **NAMES, control_symbols=["[MASK]"], byte_fallback=True))
    assert codec._mark_ids is None
    check(codec, make_documents(20, seed=4), "<u2")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"", [b""]),
        (b"abcd", [b"abcd"]),
        (b"ab cd", [b"ab", b"cd"]),
        (b"a bcdef", [b"a bcdef"]),  # the space is in the first half, and none comes after it
        (b"abcdefg h", [b"abcdefg", b"h"]),
        (b"ab  cd\nef", [b"ab ", b"cd", b"ef"]),
        (b"abcd ", [b"abcd", b""]),
    ],
)
def test_cut_at_spaces(text: bytes, parts: list[bytes]) -> None:
    assert list(cut_at_spaces(text, 4)) == parts
