"""Texts, their tokens, windows over them, and the cells that a page shows."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import transformers
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.task_sections import ExplainConfig, FieldsConfig
from pipeline.explaining import texts
from pipeline.explaining.cells import LONGEST_CHUNK, lay_out
from pipeline.explaining.texts import read_texts
from pipeline.explaining.tokens import shown_piece, tokenize, window_length, windows
from tests.pipeline.tasks.tiny_folders import tiny_tokenizer


def read(**keys: Any) -> list[tuple[str, str]]:
    return [
        (text.text, text.place)
        for text in read_texts(ExplainConfig(**{name: str(value) for name, value in keys.items()}), FieldsConfig())[0]
    ]


def test_texts_of_all_kinds(tmp_path: Path) -> None:
    lines = "\ufeffone </script>\r\n\n  \n两\u2028 \n".encode()
    for name, data in (("a.txt", lines), ("b.txt.gz", gzip.compress(lines)), ("c.txt.zst", zstandard.compress(lines))):
        path = tmp_path / name
        path.write_bytes(data)
        assert read(file=path) == [("one </script>", f"{path}:1"), ("两\u2028 ", f"{path}:4")]
    records = tmp_path / "d.jsonl.gz"
    records.write_bytes(gzip.compress(b'{"text": "x", "more": 1}\n{"sentence": "y\\n"}\n'))
    assert read(file=records) == [("x", f"{records}:1"), ("y\n", f"{records}:2")]
    assert read(text="  a [MASK] ") == [("  a [MASK] ", "explain.text")]


def test_one_page_holds_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("12345678\n123\n123\n")
    monkeypatch.setattr(texts, "PAGE_CHARACTERS", 12)
    found, left_out = read_texts(ExplainConfig(file=str(tmp_path / "a.txt")), FieldsConfig())
    assert ([len(text.text) for text in found], left_out) == ([8, 3], 1)
    monkeypatch.setattr(texts, "PAGE_CHARACTERS", 2)
    assert read(file=tmp_path / "a.txt") == [("12345678", f"{tmp_path}/a.txt:1")]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"\xff\xfe", "a.txt", "not UTF-8"),
        (b" \n\n", "a.txt", "holds no text"),
        (b"", "a.jsonl", "holds no text"),
        (b'{"text": ""}', "a.jsonl", "a.jsonl:1: 'text' has no visible character"),
        (b'{"label": 1}', "a.jsonl", "a.jsonl:1: no 'text'"),
        (b"{", "a.jsonl", "a.jsonl:1: broken JSON"),
        (b'{"text": "\\ud800"}', "a.jsonl", "half of a surrogate pair"),
        (b"x", "a.pdf", "its name ends in none of .txt, .jsonl, .ndjson"),
        (b"x", "a.txt.gz", "is not a whole .gz file"),
        (None, "a.txt", "does not exist"),
    ],
)
def test_what_is_no_text(tmp_path: Path, content: bytes | None, name: str, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(file=tmp_path / name)


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"text": "a", "file": "b"}, "both set"), ({}, "nothing to explain"), ({"text": " \n"}, "no visible character")],
)
def test_one_of_text_and_file(keys: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(**keys)


def bytes_tokenizer() -> Any:
    """Characters, and the bytes of unknown ones, as SentencePiece's byte fallback has them."""
    vocabulary = ["[PAD]", "[UNK]", "▁", "a", "b", *(f"<0x{byte:02X}>" for byte in range(256))]
    model = models.BPE({piece: index for index, piece in enumerate(vocabulary)}, [], byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def test_bytes_belong_to_their_character() -> None:
    text = "a 中é 🎉b"
    tokens = tokenize(bytes_tokenizer(), text, "here")
    seen = [text[slice(*span)] for span, piece in zip(tokens.spans, tokens.pieces, strict=True) if piece != "▁"]
    assert seen == ["a", *"中中中", *"éé", *"🎉🎉🎉🎉", "b"]
    cells = [cell for chunk in lay_out(text, objects(tokens.spans)) for cell in chunk.cells]
    assert [cell.text for cell in cells if cell.text.strip()] == ["a", "中", "é", "🎉", "b"]
    assert sum(len(cell.tokens) for cell in cells) == len(tokens.ids)


def test_byte_level_pieces_are_characters_again() -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate(["[PAD]", *letters, "ab", "Ġab"])}
    model = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("Ġ", "ab")]))
    model.pre_tokenizer, model.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=model, pad_token="[PAD]")
    text = "ab ab中"
    tokens = tokenize(tokenizer, text, "here")
    assert tokens.shown[:2] == ["ab", "␣ab"]
    assert [text[slice(*span)] for span in tokens.spans] == ["ab", "ab", "中", "中", "中"]
    assert [cell.text for chunk in lay_out(text, objects(tokens.spans)) for cell in chunk.cells] == ["ab", "ab", "中"]


def test_special_names_in_a_text_are_text() -> None:
    tokens = tokenize(tiny_tokenizer(), "good [MASK] film", "here")
    assert (tokens.before, tokens.after) == ([2], [3])
    assert tokens.pieces == ["good", "[", "MASK", "]", "film"]
    assert tokens.spans == [(0, 4), (5, 6), (6, 10), (10, 11), (12, 16)]


def test_no_token_is_a_message() -> None:
    tokenizer = tiny_tokenizer(by_words=True)
    with pytest.raises(UserError, match=r"explain\.text: the tokenizer of .* leaves no token"):
        tokenize(tokenizer, "\u3000", "explain.text")


def test_pieces_for_people() -> None:
    tokenizer = bytes_tokenizer()
    assert shown_piece(tokenizer, 2, "▁") == "␣"
    assert shown_piece(tokenizer, 9, "<0x04>") == "<0x04>"
    assert shown_piece(tiny_tokenizer(), 5, "good") == "good"


def test_a_window_is_as_long_as_all_allow() -> None:
    tokenizer = tiny_tokenizer()
    config = transformers.ElectraConfig(max_position_embeddings=40)
    assert window_length(tokenizer, config) == 40
    tokenizer.model_max_length = 30
    assert window_length(tokenizer, config) == 30
    tokenizer.model_max_length = int(1e30)
    assert window_length(tokenizer, transformers.ModernBertConfig()) == 512


@given(st.integers(1, 400), st.integers(1, 70))
def test_windows_keep_each_token_once(count: int, room: int) -> None:
    found = windows(count, room)
    assert [place for w in found for place in range(w.first_kept, w.last_kept)] == list(range(count))
    for window in found:
        assert window.last - window.first == min(room, count)
        assert window.first <= window.first_kept < window.last_kept <= window.last
        if window.first_kept > 0 and room >= 8:  # neither neighbour is missing
            assert window.first_kept - window.first >= room // 4 - 1


def objects(spans: list[tuple[int, int]]) -> list[dict[str, Any]]:
    return [{"piece": str(i), "start": a, "end": b} for i, (a, b) in enumerate(spans)]


@given(st.text(st.sampled_from("ab \n中"), max_size=40), st.lists(st.integers(0, 40), max_size=30))
def test_cells_hold_the_whole_text(text: str, places: list[int]) -> None:
    places = sorted(min(place, len(text)) for place in places)
    spans = list(zip(places[::2], places[1::2], strict=False))
    chunks = lay_out(text, objects(spans))
    if not spans:
        assert chunks == [] or [chunk.after for chunk in chunks] == [text]
        return
    shown = "".join(part for c in chunks for part in (*(cell.before + cell.text for cell in c.cells), c.after))
    assert shown == text
    order = [token["piece"] for chunk in chunks for cell in chunk.cells for token in cell.tokens]
    assert order == [str(i) for i in range(len(spans))]


def test_long_texts_are_in_chunks() -> None:
    text = json.dumps(list(range(3000)))
    spans = [(i, i + 1) for i, character in enumerate(text) if character != " "]
    chunks = lay_out(text, objects(spans))
    assert len(chunks) > 10
    assert max(len(chunk.cells) for chunk in chunks) <= LONGEST_CHUNK
    assert [chunk.first for chunk in chunks[:2]] == [0, len(chunks[0].cells)]
    assert all(chunk.after == " " for chunk in chunks[:-1])
    endless = lay_out("x" * 2000, objects([(i, i + 1) for i in range(2000)]))
    assert [len(chunk.cells) for chunk in endless] == [600, 600, 600, 200]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        *(
            (text, text)
            for text in ("Note: this", "[MASK] film", "{a} b", "12", "true", "null", "# x", "- a", "@x", "a=b")
        ),
        *((text, text) for text in ('"so" he said: "no"', "'", "'tis: it's'", "")),
        ('"in: quotes"', "in: quotes"),
        ("'it''s'", "it's"),
    ],
)
def test_a_text_on_the_command_line_is_no_yaml(given: str, text: str) -> None:
    assert load_config(None, [f"explain.text={given}"]).explain.text == text
