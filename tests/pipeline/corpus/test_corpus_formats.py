"""Every format and packing gives the same documents; every kind of damage is set aside with file, line and reason."""

import bz2
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.corpus.files import find_files
from pipeline.corpus.records import Record, Tally, fault_of
from pipeline.corpus.tasks import plan_tasks, read_span

TEXTS = [f"Document {number}: élan, 漢字, [MASK]\nand a second line." for number in range(300)]


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(data)


def packed(data: bytes, packing: str, cuts: int = 3) -> bytes:
    """The data as `cuts` members or frames one after the other."""
    size = len(data) // cuts + 1
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zst, ".bz2": bz2.compress}[packing]
    return b"".join(pack(part) for part in parts)


def content_of(kind: str, texts: list[str], folder: Path) -> bytes:
    if kind == ".txt":
        return "\n\n".join(texts).encode()
    if kind == ".jsonl":
        return "".join(json.dumps({"id": 1, "text": text}, ensure_ascii=False) + "\r\n" for text in texts).encode()
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), folder / "made", row_group_size=7)
    return (folder / "made").read_bytes()


def read_all(path: Path, task_bytes: int = 1 << 25, field: str = "text") -> list[Record]:
    """Records of one file; lines relative to their span."""
    spans = [span for task in plan_tasks(find_files([str(path)]), task_bytes) for span in task.spans]
    return [record for span in spans for record in read_span(span, field, 1 << 20, Tally())]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst", ".bz2"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".parquet"])
def test_every_format(tmp_path: Path, kind: str, packing: str) -> None:
    path = tmp_path / f"a{kind}{packing}"
    path.write_bytes(packed(content_of(kind, TEXTS, tmp_path), packing))
    assert [record.text for record in read_all(path)] == TEXTS
    assert [record.text for record in read_all(path, task_bytes=700)] == TEXTS


@pytest.mark.parametrize("lost", [1, 7, 40])
@pytest.mark.parametrize("packing", [".gz", ".zst", ".bz2"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
def test_truncated_archive_keeps_what_was_read(tmp_path: Path, kind: str, packing: str, lost: int) -> None:
    path = tmp_path / f"a{kind}{packing}"
    path.write_bytes(packed(content_of(kind, TEXTS, tmp_path), packing)[:-lost])
    *kept, damage = read_all(path)
    assert len(kept) >= 190  # two of three members are whole
    assert [record.text for record in kept] == TEXTS[: len(kept)]
    name, part = {".gz": ("gzip", "member"), ".zst": ("zstd", "frame"), ".bz2": ("bzip2", "stream")}[packing]
    assert damage.reason == f"truncated {name}: it ends inside a {part}"
    first = 3 * len(kept) + 1 if kind == ".txt" else len(kept) + 1
    assert damage.line in (first, first - 1 + (kind == ".txt"))


def test_truncated_gzip_inside_a_member_keeps_its_lines(tmp_path: Path) -> None:
    whole = gzip.compress(content_of(".jsonl", TEXTS, tmp_path))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    *kept, damage = read_all(path)
    assert len(kept) > 50
    assert (damage.line, damage.text) == (len(kept) + 1, None)


def test_flipped_bit_in_a_gzip_keeps_what_came_before(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(content_of(".jsonl", TEXTS, tmp_path)))
    data[-6] ^= 1  # the checksum
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(bytes(data))
    *kept, damage = read_all(path)
    assert [record.text for record in kept] == TEXTS
    assert (damage.line, (damage.reason or "")[:13]) == (301, "damaged gzip:")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.zst", "a.txt.bz2", "a.parquet", "a.parquet.gz"])
def test_not_what_the_name_says(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"plain text, not what the name says\n" * 3)
    (record,) = read_all(tmp_path / name)
    assert record.line == 1
    assert (record.reason or "").startswith("damaged")


def test_truncated_parquet_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(content_of(".parquet", TEXTS, tmp_path)[:-30])
    (record,) = read_all(tmp_path / "a.parquet")
    assert (record.reason or "").startswith("damaged Parquet")


def test_bad_json_lines_one_by_one(tmp_path: Path) -> None:
    lines = {
        b'{"text": "good", "n": ' + b"1" * 5000 + b"}": None,
        b'{"text": "cut': "broken JSON: Unterminated string starting at at character 10",
        b"[1, 2]": "not a JSON object: an array",
        b'{"body": "x"}': "no text field: 'text' is missing",
        b'{"text": null}': "text field not a string: 'text' is null",
        b'{"text": true}': "text field not a string: 'text' is a boolean",
        b'{"text": ["x"]}': "text field not a string: 'text' is an array",
        b'{"text": ""}': "empty text",
        b'{"text": " \\u200b\\u0007\\u00a0\\ufeff"}': "no visible character",
        b'{"text": "a\\udc80b"}': "lone surrogate: U+DC80 at character 2",
        b'{"text": "\\ud83d\\ude00"}': None,
        b'{"text": "\xc3"}': "invalid UTF-8: byte 11 of the line",
        b"[" * 100_000: "broken JSON: nested too deeply",
    }
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n\r\n".join(lines))
    found = read_all(path)
    assert [record.reason for record in found] == list(lines.values())
    assert [record.line for record in found] == [1 + 2 * number for number in range(len(lines))]
    assert [record.size for record in found] == [len(line) for line in lines]


def test_bad_parquet_rows(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff", None, b" ", "漢字".encode()], pa.binary())
    strings = pa.StringArray.from_buffers(5, raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
    pq.write_table(pa.table({"body": strings.dictionary_encode()}), tmp_path / "a.parquet")
    found = read_all(tmp_path / "a.parquet", field="body")
    assert [record.text for record in found] == ["good", None, None, None, "漢字"]
    assert [record.line for record in found] == [1, 2, 3, 4, 5]
    pq.write_table(pa.table({"n": [1, 2]}), tmp_path / "b.parquet")
    assert [record.reason for record in read_all(tmp_path / "b.parquet")] == [
        "no text field: no column 'text' among n"
    ] * 2
    assert [record.reason for record in read_all(tmp_path / "b.parquet", field="n")] == [
        "text field not a string: 'n' is int64"
    ] * 2


@pytest.mark.parametrize("text", ["a", "。", "\u2581", "😀", "\x00a", " \n x"])
def test_valid_texts(text: str) -> None:
    assert fault_of(text) is None


@pytest.mark.parametrize("text", ["", " ", "\u200b\u200d", "\x00\x1b\x7f", "\u3000\u2028", "\ufeff", "\u00ad"])
def test_texts_without_a_visible_character(text: str) -> None:
    assert fault_of(text) in ("empty text", "no visible character")


def test_real_corpus(real_data: Path) -> None:
    found = read_all(real_data / "corpus" / "en" / "en-00.jsonl.zst")
    assert len(found) == 1_696  # these two figures stand in the corpus's own description
    assert sum(len(record.text.encode()) for record in found if record.text is not None) == 17_877_121
