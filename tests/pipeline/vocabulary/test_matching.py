"""Rows of another vocabulary: found by the pieces' text, within one kind of tokenizer and across kinds."""

from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.base.sections import TokenizerConfig
from pipeline.vocabulary.codec import SentencePieceCodec
from pipeline.vocabulary.matching import (
    BYTES,
    SENTENCEPIECE,
    WORDPIECE,
    Vocabulary,
    file_vocabulary,
    folder_vocabulary,
    match_rows,
    vocabulary_of,
)
from pipeline.vocabulary.reading import given_codec
from pipeline.vocabulary.train import train_tokenizer
from tests.pipeline.vocabulary.generated_text import make_documents
from tests.pipeline.vocabulary.hf_tokenizers import BERT, ROBERTA, byte_bpe, save, word_piece

SPECIAL = list(BERT)


def vocabulary(pieces: list[str], convention: str) -> Vocabulary:
    return Vocabulary([*SPECIAL, *pieces], range(100, 105 + len(pieces)), convention)


def test_across_conventions() -> None:
    theirs = vocabulary(["king", "##ing", ",", "中", "the"], WORDPIECE)
    ours = vocabulary(["▁king", "ing", ",", "▁,", "中", "▁", "king", "▁The", "<0x0A>"], SENTENCEPIECE)
    assert match_rows(ours, theirs) == [*range(100, 105), 105, 106, 107, 107, 108, -1, -1, -1, -1]
    byte = vocabulary(["Ġking", "ing", "ä¸Ń", "Ġ", "ä¸"], BYTES)
    assert match_rows(byte, theirs)[5:] == [105, 106, 108, -1, -1]


def test_within_one_convention_pieces_are_compared() -> None:
    assert match_rows(vocabulary(["▁,", "a"], SENTENCEPIECE), vocabulary([",", "a"], SENTENCEPIECE))[5:] == [-1, 106]


def test_the_same_tokenizer_matches_wholly(tmp_path: Path) -> None:
    tokenizer = word_piece()
    path = save(tokenizer, tmp_path)
    ours, theirs = vocabulary_of(given_codec(path)), folder_vocabulary(tmp_path)
    assert theirs is not None
    rows = match_rows(ours, theirs)
    before = tokenizer.get_vocab()
    assert rows == [before[piece] for piece in ours.pieces]


def test_vocab_txt(tmp_path: Path) -> None:
    assert folder_vocabulary(tmp_path) is None
    (tmp_path / "vocab.txt").write_text("[PAD]\n[unused0]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n")
    theirs = folder_vocabulary(tmp_path)
    assert theirs is not None
    assert match_rows(vocabulary(["##b", "[unused0]", "c"], WORDPIECE), theirs) == [0, 2, 3, 4, 5, 7, 1, -1]
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    with pytest.raises(UserError, match="no token for classifier and separator"):
        folder_vocabulary(tmp_path)


def test_a_trained_sentencepiece_model_finds_words_in_other_kinds(tmp_path: Path) -> None:
    model = train_tokenizer(make_documents(300), TokenizerConfig(vocab_size=500), seed=0)
    ours = vocabulary_of(SentencePieceCodec(model))
    for theirs in (
        file_vocabulary(save(word_piece(), tmp_path / "wordpiece")),
        file_vocabulary(save(byte_bpe(), tmp_path / "bpe", ROBERTA)),
    ):
        rows = match_rows(ours, theirs)
        assert rows[:5] == list(theirs.rows[:5])
        places = {row: piece for piece, row in zip(theirs.pieces, theirs.rows, strict=True)}
        found = [(piece, places[row]) for piece, row in zip(ours.pieces[5:], rows[5:], strict=True) if row >= 0]
        assert len(found) > 60
        for mine, other in found:
            assert mine.strip("▁") == other.replace("##", "").replace("Ġ", "") or not mine.isascii()
