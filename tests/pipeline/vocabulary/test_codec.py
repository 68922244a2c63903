"""The codec: what it takes, what it refuses, and that it is SentencePiece's own ids."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from pipeline.base.errors import UserError
from pipeline.base.sections import TokenizerConfig
from pipeline.vocabulary.codec import SentencePieceCodec, check_model
from pipeline.vocabulary.reading import load_codec
from pipeline.vocabulary.train import train_tokenizer
from tests.pipeline.vocabulary.generated_text import make_documents

IDS: dict[str, Any] = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}
NAMES: dict[str, Any] = {"pad_piece": "[PAD]", "unk_piece": "[UNK]", "bos_piece": "[CLS]", "eos_piece": "[SEP]"}


def train(**options: Any) -> bytes:
    """A model by SentencePiece's own trainer."""
    model = io.BytesIO()
    settings = {"vocab_size": 400, "model_type": "unigram", "minloglevel": 2, **options}
    lines = (line for text in make_documents(300) for line in text.splitlines())
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=model, **settings)
    return model.getvalue()


def test_encodes_as_sentencepiece(tmp_path: Path) -> None:
    model = train_tokenizer(make_documents(300), TokenizerConfig(vocab_size=500), seed=0)
    (tmp_path / "tokenizer.model").write_bytes(model)
    codec = load_codec(tmp_path / "tokenizer.model")
    texts = ["", "bada [MASK] ko", "\u2581\x00 é", *make_documents(20, seed=5)]
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert codec.encode(texts) == [processor.encode(text) for text in texts]
    assert codec.encode([]) == []
    assert (codec.vocab_size, codec.sha256) == (500, hashlib.sha256(model).hexdigest())
    assert codec.decode([[2, *codec.encode(["bada ko"])[0], 3], []]) == ["bada ko", ""]
    assert pickle.loads(pickle.dumps(codec)).encode(texts) == codec.encode(texts)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_models_of_others(kind: str) -> None:
    check_model(train(model_type=kind, **IDS, **NAMES, control_symbols=["[MASK]"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"first pieces are <unk> <s> </s>.*needed are \[PAD\] \[UNK\]"),
        (IDS | NAMES, r"needed are \[PAD\]"),
        (IDS | NAMES | {"user_defined_symbols": ["[MASK]"]}, r"\[MASK\] is of type USER_DEFINED, not CONTROL"),
        (IDS | NAMES | {"control_symbols": ["[MASK]"], "model_type": "char", "vocab_size": 40}, "of type CHAR"),
    ],
)
def test_unfit_models(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_model(train(**options), "their.model")


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"garbage" * 50])
def test_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.model"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.model: not a SentencePiece model"):
        load_codec(path)


def test_missing_truncated_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the tokenizer: No such file"):
        load_codec(tmp_path / "none.model")
    with pytest.raises(UserError, match="a folder without"):
        load_codec(tmp_path)
    model = train(**IDS, **NAMES, control_symbols=["[MASK]"])
    with pytest.raises(UserError, match="damaged"):
        SentencePieceCodec(model[:-7])
