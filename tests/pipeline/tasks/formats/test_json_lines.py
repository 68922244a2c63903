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


@pytest.mark.parametrize(
    ("value", "label"),
    [(" neg ", "neg"), (1, "1"), (1.0, "1"), (-0.0, "0"), ("1.0", "1.0"), (True, "true"), (False, "false")],
)
def test_labels_as_text(value: object, label: str) -> None:
    assert label_of({"label": value}, ("label",), "f:1") == label


@pytest.mark.parametrize("value", [1.5, float("inf"), float("nan"), None, ["x"]])
def test_what_is_no_label(value: object) -> None:
    with pytest.raises(UserError, match=r"f:1: 'label' is .*, not a string or a whole number"):
        label_of({"label": value}, ("label",), "f:1")


def test_tags_may_be_numbers_of_names() -> None:
    names = choices(FieldsConfig(tag_names=("O", "B-PER", "I-PER")), "tags", ("tags",))
    for tags in ([0, 1, 2], "0 1 2", ["O", 1, "I-PER"]):
        assert strings_of({"tags": tags}, names, "f:1") == ["O", "B-PER", "I-PER"]
    for number in (3, -100, "3"):
        with pytest.raises(UserError) as told:
            strings_of({"tags": ["O", number]}, names, "f:1")
        said = f"f:1: 'tags' holds {number} (its item 2), but finetune.fields.tag_names names 0 to 2."
        assert str(told.value) == said
    for wrong in (True, 1.5, None):
        with pytest.raises(UserError, match=r"\(its item 1\), not strings only\.$"):
            strings_of({"tags": [wrong]}, names, "f:1")
    with pytest.raises(UserError) as told:
        strings_of({"tags": [0]}, choices(FieldsConfig(), "tags", ("tags",)), "f:1")
    assert str(told.value) == (
        "f:1: 'tags' holds a number (its item 1), not strings only. Name what the numbers stand for, from 0: "
        "finetune.fields.tag_names=[O, B-PER, ...]."
    )
    words = choices(FieldsConfig(tag_names=("O",)), "tokens", ("tokens",))
    assert strings_of({"tokens": ["0", "7"]}, words, "f:1") == ["0", "7"]


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
