"""Training: the same bytes every time, no line lost, special names as text, errors in our words."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_proto

from pipeline.base.errors import UserError
from pipeline.base.sections import TokenizerConfig
from pipeline.vocabulary.train import LINE_CHARACTERS, SCORE_STEP, cut_lines, normalisation_rules, train_tokenizer
from tests.pipeline.vocabulary.generated_text import SPECIAL_NAMES, make_documents

CONFIG = TokenizerConfig(vocab_size=700)


@pytest.fixture(scope="module")
def model() -> bytes:
    return train_tokenizer(make_documents(800), CONFIG, seed=1)


def test_same_bytes_in_another_process_of_one_core(model: bytes) -> None:
    code = (
        "import hashlib, os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from tests.pipeline.vocabulary.generated_text import make_documents;"
        "from pipeline.base.sections import TokenizerConfig;"
        "from pipeline.vocabulary.train import train_tokenizer;"
        "model = train_tokenizer(make_documents(800), TokenizerConfig(vocab_size=700), seed=1);"
        "print(hashlib.sha256(model).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(model).hexdigest()
    assert done.stderr == "", "SentencePiece is quiet"


def test_vocabulary(model: bytes) -> None:
    proto = sentencepiece_proto.ModelProto.FromString(model)
    pieces = [piece.piece for piece in proto.pieces]
    assert len(pieces) == 700
    assert tuple(pieces[:5]) == SPECIAL_NAMES
    assert pieces[5:261] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert all((piece.score / SCORE_STEP).is_integer() for piece in proto.pieces)
    assert b"/tmp" not in model


@pytest.mark.parametrize("name", SPECIAL_NAMES)
def test_special_names_are_text(model: bytes, name: str) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in (name, f"a {name} b", f"{name}{name}", f"x{name}"):
        ids = processor.encode(text)
        assert min(ids) > 260, "spelt by characters, not by special or byte pieces"
        assert processor.decode(ids) == text


def test_every_line_is_kept_and_short() -> None:
    text = "one two\n" + "word " * 900 + "\r\n" + "字" * 2_500 + "\n\n" + "a\tb" * 700
    lines = list(cut_lines([text, "", "last"], 10**9))
    assert max(map(len, lines)) <= LINE_CHARACTERS
    assert "".join("".join(lines).split()) == "".join(text.split()) + "last"
    assert all(line.lstrip().startswith(("word", "one", "last")) for line in lines if "word" in line), "cut at a space"


def test_at_most_sample_bytes() -> None:
    seen = []

    def endless() -> Iterator[str]:
        while True:
            seen.append(1)
            yield "été " * 50

    assert sum(len(line.encode()) for line in cut_lines(endless(), 10_000)) <= 10_000
    assert len(seen) < 60


def test_normalisation_rules_are_of_single_code_points() -> None:
    rules = dict(line.split("\t") for line in normalisation_rules().splitlines())
    assert all(" " not in source for source in rules)
    assert rules["FF21"] == "41"
    assert rules["2581"] == rules["A"] == rules["3000"] == "20"
    assert rules["1"] == ""
    assert "41" not in rules


@pytest.mark.parametrize(
    ("size", "documents", "message"),
    [
        (50_000, 300, r"vocab_size 50,000 is larger than the text supports: .* at most [\d,]+ pieces.*vocab_size=\d+"),
        (262, 300, r"vocab_size 262 is too small: .* need 3\d\d\. Raise tokenizer.vocab_size to 3\d\d or more"),
        (700, 0, "no text to train on"),
    ],
)
def test_mistakes(size: int, documents: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_tokenizer(make_documents(documents), TokenizerConfig(vocab_size=size), seed=0)


def test_the_largest_size_named_works() -> None:
    documents = make_documents(300)
    with pytest.raises(UserError) as told:
        train_tokenizer(documents, TokenizerConfig(vocab_size=50_000), seed=0)
    largest = int(str(told.value).partition("tokenizer.vocab_size=")[2].partition(" ")[0])
    model = train_tokenizer(documents, TokenizerConfig(vocab_size=largest), seed=0)
    assert sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size() == largest


def test_an_error_of_the_sentences_comes_through() -> None:
    def broken() -> Iterator[str]:
        yield "some text"
        raise UserError("corpus: line 7 is broken")

    with pytest.raises(UserError, match="line 7 is broken"):
        train_tokenizer(broken(), CONFIG, seed=0)
