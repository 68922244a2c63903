"""Files that hold nothing, or something else than their names say, are set aside with a word, however they are cut."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.corpus.first_bytes import fault_by_first_bytes
from tests.pipeline.corpus.reading import read_file, reasons_of, texts_of

TEXT = "".join(f"Document {number}: élan, 漢字.\n\n" for number in range(500))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.gz", "a.parquet.gz", "a.warc.gz", "a.xml.gz"])
def test_a_gzip_file_of_zeros(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(100_000))
    (reason,) = reasons_of(read_file(tmp_path / name))
    assert reason.endswith("damaged gzip: it holds no member")
    assert reason.startswith("damaged")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl.gz", "gzip"),
        ("a.txt.zst", "zstd"),
        ("a.jsonl.bz2", "bzip2"),
        ("a.xml.bz2", "bzip2"),
        ("a.parquet.gz", "gzip"),
        ("a.parquet", "Parquet"),
        ("a.arrow", "Arrow"),
        ("a.warc", "WARC"),
        ("a.wet.gz", "gzip"),
        ("a.xml", "XML"),
    ],
)
def test_an_empty_file_that_cannot_be_a_whole_one(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).touch()
    (record,) = read_file(tmp_path / name)
    assert (record.line, record.reason) == (1, f"truncated {kind}: the file is empty")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_an_empty_plain_file_is_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert read_file(tmp_path / name) == []


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", data)
    return file.getvalue()


def parquet(data: bytes) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": [data.decode()]}), file)
    return file.getvalue()


def arrow(data: bytes) -> bytes:
    file = io.BytesIO()
    table = pa.table({"text": [data.decode()]})
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write(table)
    return file.getvalue()


MADE: dict[str, Callable[[bytes], bytes]] = {
    "a gzip file": gzip.compress,
    "a zstd file": zstandard.ZstdCompressor().compress,
    "an xz file": lzma.compress,
    "a bzip2 file": bz2.compress,
    "an lz4 file": pa.Codec("lz4").compress if pa.Codec.is_available("lz4") else bytes,
    "a zip file": zipped,
    "a Parquet file": parquet,
    "an Arrow file": arrow,
    "a 7z file": lambda data: b"7z\xbc\xaf\x27\x1c\x00\x04" + lzma.compress(data),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
}


@pytest.mark.parametrize("task_bytes", [1 << 25, 100])
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".xml"])
@pytest.mark.parametrize("what", MADE)
def test_another_format_under_a_plain_name(tmp_path: Path, what: str, kind: str, task_bytes: int) -> None:
    path = tmp_path / f"a{kind}"
    path.write_bytes(MADE[what](TEXT.encode()))
    found = read_file(path, task_bytes=task_bytes)
    ranges = max(1, -(-path.stat().st_size // task_bytes))
    assert reasons_of(found) == [f"damaged text: it is {what} by its first bytes"] * ranges
    assert texts_of(found) == []
    assert {record.line for record in found} == {1}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_utf_16(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    assert reasons_of(read_file(tmp_path / "a.txt")) == ["damaged text: it is UTF-16 by its first bytes"]


@pytest.mark.parametrize("text", ["PAR1 is a protein.", "BZh91 and PK", "7z, zip", "ARROW1", "P", "", "a\0b", "élan"])
def test_text_that_begins_alike(text: str) -> None:
    assert fault_by_first_bytes(text.encode()[:16]) is None


def test_zeros_in_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\ntwo\0 and a half\n\nthree" + bytes(4096))
    found = read_file(path)
    assert texts_of(found) == ["one", "two\0 and a half"]
    assert reasons_of(found) == ["damaged text: NUL bytes"]
    path.write_bytes(b"one\n\n" + "some words\n".encode("utf-16-le") * 3 + b"\n\nlast")
    assert texts_of(read_file(path))[0] == "one"
    assert "damaged text: NUL bytes" in reasons_of(read_file(path))
