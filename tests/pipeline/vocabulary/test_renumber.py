"""A given tokenizer.json: our special ids, the same pieces as before on any text, and what is refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

from pipeline.base.errors import UserError
from pipeline.vocabulary.codec import Codec
from pipeline.vocabulary.fast import fast_tokenizer
from pipeline.vocabulary.reading import codec_of, given_codec, given_digest, load_codec, read_renumbered
from pipeline.vocabulary.renumber import renumber
from tests.pipeline.vocabulary.generated_text import ODD, make_documents
from tests.pipeline.vocabulary.hf_tokenizers import BERT, ROBERTA, byte_bpe, save, unigram, word_piece

KINDS: dict[str, tuple[Callable[[], Tokenizer], tuple[str, ...]]] = {
    "wordpiece": (word_piece, BERT),
    "bpe": (byte_bpe, ROBERTA),
    "unigram": (unigram, ROBERTA),
}


@pytest.fixture(scope="module", params=list(KINDS))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    make, names = KINDS[request.param]
    return save(make(), tmp_path_factory.mktemp(request.param), names), names


def pieces_of(codec: Codec, text: str) -> list[str]:
    names = codec.pieces()
    return [names[index] for index in codec.encode([text])[0]]


def their_pieces(tokenizer: Any, text: str) -> list[str]:
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return tokenizer.convert_ids_to_tokens(ids)


def test_same_pieces_and_our_ids(saved: tuple[Path, tuple[str, ...]]) -> None:
    path, names = saved
    theirs, codec = AutoTokenizer.from_pretrained(path.parent), given_codec(path)
    assert codec.special_names == names
    assert codec.vocab_size == len(theirs)
    for text in [*make_documents(150, seed=3), *make_documents(30, seed=4), *ODD, "HELLO World", "<extra> <more>", ""]:
        if text in names:
            continue
        assert pieces_of(codec, text) == their_pieces(theirs, text), text


def test_special_names_in_a_text_are_text(saved: tuple[Path, tuple[str, ...]]) -> None:
    path, names = saved
    codec = given_codec(path)
    for name in names:
        ids = codec.encode([name, f"ba {name}", f"{name}{name} ko"])
        assert all({0, 2, 3, 4}.isdisjoint(part) for part in ids)
        assert min(map(len, ids)) > 0


def test_what_is_exported_is_an_ordinary_tokenizer(saved: tuple[Path, tuple[str, ...]], tmp_path: Path) -> None:
    path, names = saved
    codec = given_codec(path)
    fast_tokenizer(codec.model, 64).save_pretrained(tmp_path)
    theirs, ours = AutoTokenizer.from_pretrained(path.parent), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.model_max_length == 64
    assert ours.convert_tokens_to_ids(list(names)) == [0, 1, 2, 3, 4]
    assert ours.convert_ids_to_tokens(range(len(ours))) == codec.pieces()
    assert (ours.pad_token_id, ours.cls_token_id, ours.mask_token_id) == (0, 2, 4)
    for text in make_documents(30, seed=5):
        mine, given = ours(text, f"a {names[4]} b"), theirs(text, f"a {names[4]} b")
        assert ours.convert_ids_to_tokens(mine["input_ids"]) == theirs.convert_ids_to_tokens(given["input_ids"])
        assert ours(text, add_special_tokens=False)["input_ids"] == codec.encode([text])[0]


def test_once_is_enough(saved: tuple[Path, tuple[str, ...]], tmp_path: Path) -> None:
    path, _ = saved
    first = read_renumbered(path)
    assert sorted(first.order) == list(range(len(first.order)))
    again = renumber(first.model, [], "again")
    assert (again.model, again.order) == (first.model, list(range(len(first.order))))
    (tmp_path / "tokenizer.json").write_bytes(first.model)
    codec = load_codec(tmp_path / "tokenizer.json")
    assert codec.sha256 == given_digest(path) == given_digest(path.parent)
    texts = make_documents(5)
    copy = pickle.loads(pickle.dumps(codec))
    assert copy.encode(texts) == codec.encode(texts)
    assert codec.encode([]) == []
    assert codec.decode([[2, *codec.encode(["bada"])[0], 3]])[0].strip() == "bada"


def test_order_of_the_rest_is_kept(tmp_path: Path) -> None:
    tokenizer = word_piece()
    codec = given_codec(save(tokenizer, tmp_path))
    before = sorted(tokenizer.get_vocab(), key=lambda piece: tokenizer.get_vocab()[piece])
    assert codec.pieces()[5:] == [piece for piece in before if piece not in BERT]


def test_a_missing_mask_is_added(tmp_path: Path) -> None:
    path = save(unigram(after=()), tmp_path, ROBERTA[:4])
    found = read_renumbered(path)
    assert found.order[4] == -1
    assert "[MASK] is added" in found.notes[0]
    codec = given_codec(path)
    assert codec.special_names[4] == "[MASK]"
    theirs = AutoTokenizer.from_pretrained(path.parent)
    assert codec.vocab_size == len(theirs) + 1
    for text in [*make_documents(20, seed=6), "[MASK] ba"]:
        assert pieces_of(codec, text) == their_pieces(theirs, text)


def test_a_text_is_framed_where_it_was_not(tmp_path: Path) -> None:
    tokenizer = word_piece()
    values = json.loads(tokenizer.to_str()) | {"post_processor": None}
    path = save(Tokenizer.from_str(json.dumps(values)), tmp_path)
    assert "a template that does is added" in read_renumbered(path).notes[0]
    ours = fast_tokenizer(given_codec(path).model, 64)
    one = ours("bada", "ko")
    assert [one["input_ids"][0], one["input_ids"][-1]] == [2, 3]
    assert (one["token_type_ids"][0], one["token_type_ids"][-1]) == (0, 1)


def spoilt(**changes: Any) -> bytes:
    return json.dumps(json.loads(word_piece().to_str()) | changes).encode()


def without(name: str) -> bytes:
    tokenizer = Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1} | {x: 2 + n for n, x in enumerate(BERT) if x != name}))
    return tokenizer.to_str().encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b'{"model": 1}', "no model with a vocab"),
        (b'{"model_type": "bert", "vocab_size": 3}', "no model with a vocab"),
        (spoilt(model={"type": "Morse", "vocab": {"a": 0}}), "of type 'Morse'"),
        (spoilt(pre_tokenizer={"type": "Nothing"}), "a damaged one"),
        (without("[CLS]"), r"no token for classifier \(looked for"),
        (without("[PAD]"), "no token for padding"),
        (spoilt(added_tokens=[{"id": 7, "content": "[CLS]", "special": True, **dict.fromkeys(
            ("single_word", "lstrip", "rstrip", "normalized"), False)}]), "not of one tokenizer"),
    ],
)  # fmt: skip
def test_unfit_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        given_codec(path)
    assert str(path) in str(caught.value)


def test_a_tokenizer_that_was_not_renumbered_is_no_runs_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ids 0 to 4 are not its special tokens"):
        codec_of(word_piece().to_str().encode())
    with pytest.raises(UserError, match="cannot read the tokenizer"):
        given_codec(tmp_path / "none.json")
