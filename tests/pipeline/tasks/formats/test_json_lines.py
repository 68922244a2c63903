import gzip
from pathlib import Path

import pytest
import zstandard

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FieldsConfig
from pipeline.tasks.formats.fields import choices, label_of, strings_of, text_of
from pipeline.tasks.formats.jsonl import read_json_lines

GOOD = b'{"text": "a b", "label": "x"}\n{"sentence": "c", "label": 1}\n'


def test_lines_blank_lines_bom_and_crlf(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}\r\n\r\n  \n{"a": "\xe2\x80\xa8"}')
    assert list(read_json_lines(path)) == [(1, {"a": 1}), (4, {"a": "\u2028"})]


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".GZ"])
def test_compressed_files_of_several_parts(tmp_path: Path, suffix: str) -> None:
    press = gzip.compress if suffix.lower() == ".gz" else zstandard.ZstdCompressor().compress
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(press(GOOD) + press(GOOD))
    assert [number for number, _ in read_json_lines(path)] == [1, 2, 3, 4]
    for broken in (press(GOOD * 50)[:-9], b"plain"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"a\.jsonl.*not a whole"):
            list(read_json_lines(path))


def test_utf16_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"a": 1}\n'.encode("utf-16"))
    with pytest.raises(UserError, match=r"a\.jsonl:1: not UTF-8.*UTF-16"):
        list(read_json_lines(path))


def test_broken_json_has_one_line_and_one_column(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": }\n')
    with pytest.raises(UserError) as told:
        list(read_json_lines(path))
    assert str(told.value) == f"{path}:2: broken JSON (Expecting value, column 7). Each line is one object."


HALVES = {
    "label": r'{"label": "\uD83D"}',
    "references": r'{"target": "a \ud83d\ude00", "references": ["b", "c\udc00"]}',
    "answers": r'{"answers": {"text": ["\ud83d"], "answer_start": [0]}}',
    "meta": r'{"meta": [{"\ud83d": 1}]}',
}


@pytest.mark.parametrize("field", HALVES)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_stands(tmp_path: Path, field: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"a": "\ud83d\ude00 \\ud83d"}' + f"\n{HALVES[field]}\n")
    records = read_json_lines(path)
    assert next(records) == (1, {"a": "\U0001f600 \\ud83d"})
    with pytest.raises(UserError, match=rf"a\.jsonl:2: '{field}' holds half of a surrogate pair"):
        next(records)


def test_fields_of_other_names() -> None:
    record = {"body": "a b", "kind": 3, "words": ["a", ""]}
    fields = FieldsConfig(text="body", label="kind")
    assert text_of(record, choices(fields, "text", ("text",)), "f:1") == "a b"
    assert label_of(record, choices(fields, "label", ("label",)), "f:1") == "3"
    assert strings_of(record, choices(fields, "tokens", ("tokens", "words")), "f:1") == ["a", ""]
    assert strings_of(record, ("body",), "f:1") == ["a", "b"]
    with pytest.raises(UserError) as told:
        text_of(record, choices(FieldsConfig(), "text", ("text",)), "f:1")
    assert str(told.value) == (
        "f:1: no 'text'; the record has 'body', 'kind', 'words'. Name it by finetune.fields.text."
    )
    with pytest.raises(UserError, match=r"the record has 'body', 'kind', 'words'\.$"):
        text_of(record, ("good",), "f:1")
    with pytest.raises(UserError, match="'kind' is a number, not a list"):
        strings_of(record, ("kind",), "f:1")
    with pytest.raises(UserError, match=r"'w' holds null \(its item 2\)"):
        strings_of({"w": ["a", None]}, ("w",), "f:1")
