"""The Hugging Face twin against SentencePiece itself: the same ids on any text, before and after saving."""

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import UserError
from pipeline.base.sections import TokenizerConfig
from pipeline.vocabulary.fast import fast_tokenizer, has_exact_twin
from pipeline.vocabulary.train import train_tokenizer
from tests.pipeline.vocabulary.generated_text import ODD, make_documents, make_words, odd_texts
from tests.pipeline.vocabulary.test_codec import IDS, NAMES, train

SPECIAL = {**IDS, **NAMES, "control_symbols": ["[MASK]"], "byte_fallback": True}


class Twins:
    """A SentencePiece model and its fast tokenizer."""

    def __init__(self, model: bytes, fast: Any) -> None:
        self.sentencepiece = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.fast = fast
        self.pieces = [self.sentencepiece.id_to_piece(i) for i in range(261, self.sentencepiece.get_piece_size())]

    def differences(self, texts: list[str]) -> list[str]:
        """Texts whose ids differ."""
        ours = self.sentencepiece.encode(texts)
        theirs = self.fast(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b]


@pytest.fixture(scope="module")
def model() -> bytes:
    return train_tokenizer(make_documents(1500), TokenizerConfig(vocab_size=1200), seed=0)


@pytest.fixture(scope="module")
def saved(model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer as an export has it: beside a config.json and the SentencePiece model."""
    folder = tmp_path_factory.mktemp("saved")
    fast_tokenizer(model, 64).save_pretrained(folder)
    transformers.ElectraConfig().save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(model)
    return folder


@pytest.fixture(scope="module")
def twins(model: bytes, saved: Path) -> Twins:
    return Twins(model, transformers.AutoTokenizer.from_pretrained(saved))


def test_odd_strings_and_all_their_pairs(twins: Twins) -> None:
    texts = ["", *ODD, *(a + b for a in ODD for b in ODD), *(f"ba{a}{b}de" for a in ODD for b in ODD)]
    assert twins.differences(texts) == []


@pytest.mark.slow
def test_every_code_point(twins: Twins) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = ["".join(characters[i : i + 500]) for i in range(0, len(characters), 500)]
    assert twins.differences(texts) == []
    texts = ["ª" + " ½".join(characters[i : i + 500]) for i in range(0, 0x10000, 500)]
    assert twins.differences(texts) == []


def test_random_texts(twins: Twins) -> None:
    assert twins.differences(odd_texts(6_000, twins.pieces, seed=1)) == []


@settings(max_examples=300)
@given(st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab [\u2581\u0301\u200d\x00\t")), max_size=80))
def test_any_text(twins: Twins, text: str) -> None:
    assert twins.differences([text]) == []


def test_very_long_lines(twins: Twins) -> None:
    words = make_words(40_000, seed=3)
    texts = [
        " ".join(words),
        "".join(words),
        "ab" * 50_000,
        "\u0b95" * 100_000 + " " + "".join(words[:5_000]),
        " " * 100_000,
    ]
    assert min(map(len, texts)) >= 100_000
    assert twins.differences(texts) == []


@pytest.mark.slow
def test_many_random_texts_of_several_vocabularies() -> None:
    for seed, size in enumerate((330, 600, 1200)):
        model = train_tokenizer(make_documents(1500, seed), TokenizerConfig(vocab_size=size), seed=seed)
        twins = Twins(model, fast_tokenizer(model, 64))
        assert twins.differences(odd_texts(3_000, twins.pieces, seed=10 + seed)) == []


def test_real_text(real_data: Path) -> None:
    """A vocabulary of English and Chinese; lines of both that it was not trained on."""
    zstandard = pytest.importorskip("zstandard")
    documents = []
    for name in ("en/en-03", "zh/zh-01"):
        with zstandard.open(real_data / "corpus" / f"{name}.jsonl.zst", "rt", encoding="utf-8") as lines:
            documents += [json.loads(next(lines))["text"] for _ in range(80)]
    model = train_tokenizer(documents[:40] + documents[80:120], TokenizerConfig(vocab_size=4000), seed=0)
    assert Twins(model, fast_tokenizer(model, 64)).differences(documents) == []


def test_special_tokens_as_users_expect(twins: Twins, saved: Path) -> None:
    fast = twins.fast
    assert fast.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 1, 2, 3, 4]
    assert (fast.pad_token_id, fast.unk_token_id, fast.cls_token_id, fast.sep_token_id, fast.mask_token_id) == (
        0,
        1,
        2,
        3,
        4,
    )
    words = twins.sentencepiece.encode(["bada", "ko"])
    assert fast("bada [MASK] ko")["input_ids"] == [2, *words[0], 4, *words[1], 3]
    assert fast("bada [MASK] [MASK]ko")["input_ids"][:-1] == [2, *words[0], 4, 4, *_inner(twins, "ko")]
    assert fast(" [MASK]ko", add_special_tokens=False)["input_ids"] == [4, *_inner(twins, "ko")]
    pair = fast("bada", "ko bada")
    first, second = twins.sentencepiece.encode(["bada", "ko bada"])
    assert pair["input_ids"] == [2, *first, 3, *second, 3]
    assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    text = "bada [MASK] ko [CLS]"
    plain = transformers.AutoTokenizer.from_pretrained(saved, split_special_tokens=True)
    assert plain(text, add_special_tokens=False)["input_ids"] == twins.sentencepiece.encode(text)


def _inner(twins: Twins, text: str) -> list[int]:
    """Ids of a text that goes on inside a word."""
    ids = twins.sentencepiece.encode("\u2581" + text, out_type=int)
    pieces = [twins.sentencepiece.id_to_piece(i) for i in ids]
    if pieces[0] == "\u2581":
        return ids[1:]
    return twins.fast("[MASK]" + text, add_special_tokens=False)["input_ids"][1:]


def test_what_a_user_sees(twins: Twins, saved: Path) -> None:
    fast = twins.fast
    assert fast.is_fast
    assert fast.model_max_length == 64
    assert len(fast("ba " * 500, truncation=True)["input_ids"]) == 64
    text = "bada ko (1980)"
    assert fast.decode(fast(text)["input_ids"], skip_special_tokens=True) == text
    assert fast.decode(fast("ko 漢é")["input_ids"], skip_special_tokens=True) == "ko 漢é", "bytes come together again"
    assert "auto_map" not in json.loads((saved / "tokenizer_config.json").read_text())
    offsets = fast("bada \u200b ko", return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    assert offsets[-1][1] == 9


def test_saved_again_is_the_same(twins: Twins, tmp_path: Path) -> None:
    twins.fast.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [*odd_texts(300, twins.pieces, seed=4), "bada [MASK] ko"]
    assert again(texts, verbose=False).data == twins.fast(texts, verbose=False).data


def test_without_token_types(model: bytes) -> None:
    assert set(fast_tokenizer(model, 64, token_types=False)("bada", "ko")) == {"input_ids", "attention_mask"}


def test_models_of_others_agree_on_plain_text() -> None:
    """Text in composed and decomposed form, odd spaces; unigram and BPE, SentencePiece's own normalisation or none."""
    marks = ["Ａ  １９\u3000ba…", "é 漢 x", "e\u0302\u0301 か\u3099 \u1112\u1161\u11ab ª\u0301", "a\u0301\u200b\u0301"]
    texts = [
        *make_documents(300, seed=9),
        *marks,
        " ba",
        "ba\n\nko ",
        "\u2581",
        "ba \u2581 \u2581ko\u2581 ",
        "\u2581ba",
        "",
    ]
    for most, options in (  # of 1,000 odd texts, full of loose marks and special names
        (100, {"model_type": "unigram"}),
        (100, {"model_type": "bpe"}),
        (10, {"model_type": "unigram", "normalization_rule_name": "identity"}),
        (0, {"model_type": "bpe", "normalization_rule_name": "identity"}),
        (100, {"model_type": "unigram", "add_dummy_prefix": False}),
        (250, {"model_type": "unigram", "byte_fallback": False}),
        (100, {"model_type": "bpe", "split_by_whitespace": False}),
        (150, {"model_type": "unigram", "remove_extra_whitespaces": False}),
    ):
        model = train(**(SPECIAL | {"vocab_size": 700} | options))
        assert not has_exact_twin(model)
        twins = Twins(model, fast_tokenizer(model, 64))
        assert twins.differences(texts) == [], options
        odd = odd_texts(1_000, twins.pieces, seed=2)
        assert len(twins.differences(odd)) <= most, options


def test_models_without_a_twin() -> None:
    with pytest.raises(UserError, match="treat_whitespace_as_suffix"):
        fast_tokenizer(train(**SPECIAL, treat_whitespace_as_suffix=True), 64)
    with pytest.raises(UserError, match="first pieces"):
        fast_tokenizer(train(), 64)
