"""A vocab.txt, google's released layout: the ids that transformers gives by the same folder, under our special ids."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, ElectraTokenizerFast

from pipeline.base.errors import UserError
from pipeline.vocabulary.fast import fast_tokenizer
from pipeline.vocabulary.reading import given_codec, given_digest, load_codec, read_renumbered
from tests.pipeline.vocabulary.generated_text import ODD, make_documents
from tests.pipeline.vocabulary.hf_tokenizers import BERT, word_piece

EXTRA = ("É", "é", "e", "##é", "##e", "W", "w", "##ö", "##o", "中", "文", "##文", "[", "]", "MASK", "mask", "-", "¿")
TEXTS = [*make_documents(60, seed=3), *ODD, "HELLO Éé wö Wo 中文x [MASK]-mask ¿[UNK]", "", *BERT]


@cache
def lines() -> list[str]:
    """Pieces in the order of their ids."""
    before = word_piece().get_vocab()
    return [*sorted(before, key=lambda piece: before[piece]), *(piece for piece in EXTRA if piece not in before)]


def folder(path: Path, newline: str = "\n", **config: Any) -> Path:
    """vocab.txt, and a tokenizer_config.json with these options, if there are any."""
    path.mkdir(exist_ok=True)
    (path / "vocab.txt").write_bytes("".join(piece + newline for piece in lines()).encode())
    if config:
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
        {"do_lower_case": True, "strip_accents": False, "model_max_length": 512},
    ],
)
def test_the_ids_of_transformers(tmp_path: Path, config: dict[str, Any]) -> None:
    path = folder(tmp_path / "folder", **config)
    theirs, codec = ElectraTokenizerFast.from_pretrained(path), given_codec(path)
    order = read_renumbered(path / "vocab.txt").order
    assert codec.special_names == BERT
    for text in TEXTS:
        expected = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert [order[index] for index in codec.encode([text])[0]] == expected, text
    fast_tokenizer(codec.model, 64).save_pretrained(tmp_path / "export")
    ours = AutoTokenizer.from_pretrained(tmp_path / "export")
    mine, given = ours("bada ko", "Éa"), theirs("bada ko", "Éa")
    assert [order[index] for index in mine["input_ids"]] == given["input_ids"]
    assert mine["token_type_ids"] == given["token_type_ids"]


def test_folder_and_file_are_one(tmp_path: Path) -> None:
    path = folder(tmp_path / "folder", newline="\r\n")
    codec = given_codec(path / "vocab.txt")
    assert codec.sha256 == given_digest(path) == given_digest(path / "vocab.txt")
    assert codec.model == given_codec(folder(tmp_path / "unix")).model
    own = tmp_path / "tokenizer.json"
    own.write_bytes(codec.model)
    assert load_codec(own).sha256 == codec.sha256
    (path / "tokenizer.json").write_bytes(word_piece().to_str().encode())  # the better of the two
    assert given_digest(path) == given_digest(path / "tokenizer.json") != codec.sha256


def test_equal_lines_leave_a_gap(tmp_path: Path) -> None:
    content = "[PAD]\na\n[UNK]\n[CLS]\na\n[SEP]\n[MASK]\n##b\n"
    (tmp_path / "vocab.txt").write_text(content)
    codec, order = given_codec(tmp_path), read_renumbered(tmp_path / "vocab.txt").order
    assert [order[index] for index in codec.encode(["Ab a"])[0]] == [4, 7, 4]
    assert codec.vocab_size == len(content.split())


@pytest.mark.parametrize(
    ("content", "config", "message"),
    [
        (None, {}, "a folder without tokenizer.json, tokenizer.model, vocab.txt"),
        (b"caf\xe9\n", {}, "not a vocab.txt, which is UTF-8"),
        (b"A text, no vocabulary.\n", {}, r"no token for padding and unknown and classifier and separator \(looked"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", {"do_lower_case": "yes"}, r"are true or false, not \['yes'\]"),
    ],
)
def test_unfit_folders(tmp_path: Path, content: bytes | None, config: dict[str, Any], message: str) -> None:
    if content is not None:
        (tmp_path / "vocab.txt").write_bytes(content)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message) as caught:
        given_codec(tmp_path)
    assert str(tmp_path) in str(caught.value)
