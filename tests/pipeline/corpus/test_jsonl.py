"""JSON lines: what is taken, and why not, is as Python's json has it; URLs; memory for lines of any length."""

import struct
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.corpus import jsonl
from pipeline.corpus.jsonl import parse_line, read_jsonl
from pipeline.corpus.lines import Line
from pipeline.corpus.records import Record, Tally
from pipeline.corpus.streams import CHUNK, read_chunks

LINES = [
    b'{"text": "plain", "url": "https://example.org/a"}',
    b'{"text": "first", "text": "last"}',
    b' \t{"text": "\\u00e9\\ud83d\\ude00\\u0000", "n": [1, -0, 1e5, {"a": null}]}\r',
    b'\xef\xbb\xbf{"text": "after a byte order mark"}',
    b'\xef\xbb\xbf\xef\xbb\xbf{"text": "two of them"}',
    b'{"text": "not a number", "n": NaN}',
    b'{"text": "infinite", "n": [-Infinity, 1e400]}',
    b'{"text": "many digits", "n": 1' + b"0" * 5000 + b"}",
    b'{"text": "surrogate elsewhere", "title": "\\ud800", "url": "a\\udc00b"}',
    b'{"text": "\\ud800"}',
    b'{"text": "\\udc00\\ud800"}',
    b'{"text": "\xed\xa0\x80"}',
    b'{"text": "\xc0\x80"}',
    b'{"text": "tab\tinside"}',
    b'{"text": "nul\x00inside"}',
    b'{"text": "bad escape \\x"}',
    b'{"text": "a", "n": 01}',
    b'{"text": "a", "n": 1.}',
    b'{"text": "a",}',
    b'{"text": "a"} {"text": "b"}',
    b'\xc2\xa0{"text": "a"}',
    b'{"text": "a", "n": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"text": "a", "n": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b"NaN",
    b"1",
    b"{",
]


def record(content: bytes) -> Record:
    return parse_line(Line(0, len(content), content), 1, "text", 1 << 20, "url")


@pytest.mark.parametrize("content", LINES, ids=lambda content: content[:30])
def test_as_json_reads_it(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes) -> Any:
        raise orjson.JSONDecodeError("not asked", "", 0)

    fast = record(content)
    monkeypatch.setattr(jsonl.orjson, "loads", refuse)
    assert fast == record(content)


@pytest.mark.parametrize(
    ("line", "field", "url"),
    [
        (b'{"text": "a", "url": "https://example.org"}', "url", "https://example.org"),
        (b'{"text": "a", "meta": "b", "url": "c"}', "meta", "b"),
        (b'{"text": "a"}', "url", ""),
        (b'{"text": "a", "url": 5}', "url", ""),
        (b'{"text": "a", "url": null}', "url", ""),
        (b'{"text": "a", "": "b"}', "", ""),
        (b'{"text": "a", "url": "x\\ud800"}', "url", "x?"),
    ],
)
def test_url(tmp_path: Path, line: bytes, field: str, url: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line)
    (found,) = read_jsonl(str(path), "", 0, None, "text", 1 << 20, Tally(), field)
    assert (found.text, found.url) == ("a", url)


def test_a_small_archive_of_a_long_run_comes_in_chunks(tmp_path: Path) -> None:
    blocks = 40  # of one byte repeated 128 KiB times, 4 bytes each
    frame = b"\x28\xb5\x2f\xfd\x00\x58"
    for number in range(blocks):
        frame += struct.pack("<I", (number == blocks - 1) | 1 << 1 | 1 << 20)[:3] + b"\n"
    (tmp_path / "a.jsonl.zst").write_bytes(frame)
    sizes = [len(chunk) for chunk in read_chunks(str(tmp_path / "a.jsonl.zst"), ".zst")]
    assert sum(sizes) == blocks << 17
    assert max(sizes) <= CHUNK
