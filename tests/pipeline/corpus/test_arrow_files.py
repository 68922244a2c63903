"""Arrow files as Hugging Face's save_to_disk writes them, and others: every row once, however the file is cut."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard

from pipeline.corpus.arrow import record_batch_bytes
from pipeline.corpus.files import find_files
from tests.pipeline.corpus.reading import read_file, reasons_of, texts_of

TEXTS = [f"Document {number}: élan, 漢字, [MASK]" for number in range(300)]
FORMATS = {"stream": pa.ipc.new_stream, "file": pa.ipc.new_file}
COLUMNS = {
    "string": pa.array(TEXTS),
    "large_string": pa.array(TEXTS, pa.large_string()),
    "string_view": pa.array(TEXTS, pa.string_view()),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
}


def write(path: Path, column: pa.Array, layout: str = "stream", compression: str | None = None, rows: int = 7) -> Path:
    """A file of record batches of so many rows, with a column before the text and its address behind it."""
    urls = [f"https://example.org/{number}" for number in range(len(column))]
    table = pa.table({"id": range(len(column)), "text": column, "url": urls})
    options = pa.ipc.IpcWriteOptions(compression=compression, unify_dictionaries=True)
    with FORMATS[layout](str(path), table.schema, options=options) as out:
        out.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("column", COLUMNS)
def test_every_row_however_it_is_cut(tmp_path: Path, column: str, layout: str, compression: str | None) -> None:
    path = write(tmp_path / "a.arrow", COLUMNS[column], layout, compression)
    assert len(record_batch_bytes(str(path)) or []) == 43
    for task_bytes in (1 << 25, 1500):
        found = read_file(path, task_bytes)
        assert [record.text for record in found] == TEXTS
        assert [record.line for record in found] == list(range(1, 301))
        assert found[12].url == "https://example.org/12"


@pytest.mark.parametrize("packing", [".gz", ".zst"])
@pytest.mark.parametrize("layout", FORMATS)
def test_packed(tmp_path: Path, layout: str, packing: str) -> None:
    path = write(tmp_path / "a", COLUMNS["string"], layout)
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}[packing]
    (tmp_path / f"a.arrow{packing}").write_bytes(pack(path.read_bytes()))
    assert texts_of(read_file(tmp_path / f"a.arrow{packing}", 1500)) == TEXTS
    (tmp_path / f"b.arrow{packing}").write_bytes(pack(path.read_bytes())[:-40])
    assert reasons_of(read_file(tmp_path / f"b.arrow{packing}"))[0].startswith("damaged Arrow: truncated")


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    """The layout of datasets 2 to 4: shards beside JSON, a folder a split, and what map() left behind."""
    for split, first in (("train", 0), ("test", 200)):
        folder = tmp_path / "saved" / split
        folder.mkdir(parents=True)
        for shard in range(2):
            start = first + 50 * shard
            write(folder / f"data-{shard:05d}-of-00002.arrow", pa.array(TEXTS[start : start + 50]), rows=1000)
        write(folder / "cache-1a2b3c4d5e6f7081.arrow", pa.array(["again"]))
        files = [{"filename": f"data-{shard:05d}-of-00002.arrow"} for shard in range(2)]
        (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": split}))
        (folder / "dataset_info.json").write_text("{}")
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    names = [file.name for file in find_files([str(tmp_path / "saved")])]
    assert names == [f"{split}/data-0000{n}-of-00002.arrow" for split in ("test", "train") for n in range(2)]
    assert len(find_files([str(tmp_path / "saved" / "train")])) == 2
    assert len(find_files([str(tmp_path / "saved" / "train" / "cache-1a2b3c4d5e6f7081.arrow")])) == 1
    read = [text for name in names for text in texts_of(read_file(tmp_path / "saved" / name))]
    assert read == [*TEXTS[200:300], *TEXTS[:100]]


def test_bad_rows_and_columns(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff", None, b" ", "漢字".encode(), b"x" * 2000], pa.binary())
    strings = pa.StringArray.from_buffers(6, raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
    found = read_file(write(tmp_path / "a.arrow", strings), limit=1024)
    assert [record.text for record in found] == ["good", None, None, None, "漢字", None]
    assert reasons_of(found) == [
        "invalid UTF-8: byte 1 of the text",
        "text field not a string: 'text' is null",
        "no visible character",
        "too long: over corpus.max_record_bytes (1024)",
    ]
    missing = reasons_of(read_file(tmp_path / "a.arrow", field="body"))
    assert missing == ["no text field: no column 'body' among id, text, url"] * 6
    assert reasons_of(read_file(tmp_path / "a.arrow", field="id")) == ["text field not a string: 'id' is int64"] * 6


@pytest.mark.parametrize("layout", FORMATS)
def test_a_truncated_file_keeps_what_could_be_read(tmp_path: Path, layout: str) -> None:
    path = write(tmp_path / "a.arrow", COLUMNS["string"], layout)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    *kept, damage = read_file(path, 1500)
    assert 100 < len(kept) < 200
    assert [record.text for record in kept] == TEXTS[: len(kept)]
    assert (damage.line, (damage.reason or "")[:15]) == (len(kept) + 1, "damaged Arrow: ")


@pytest.mark.parametrize(
    "content", [b"plain text, not Arrow\n" * 9, b"ARROW1\0\0 and then nothing", b"\xff" * 40, b"\0"]
)
def test_not_what_the_name_says(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.arrow").write_bytes(content)
    found = read_file(tmp_path / "a.arrow")
    assert texts_of(found) == []
    assert len(found) <= 1  # one NUL reads as the end of an empty stream


@pytest.mark.parametrize("layout", FORMATS)
def test_broken_bytes_never_give_a_wrong_kind_of_error(tmp_path: Path, layout: str) -> None:
    whole = write(tmp_path / "a.arrow", COLUMNS["string"], layout).read_bytes()
    for seed in range(100):
        draw, data = random.Random(seed), bytearray(whole)
        for _ in range(draw.choice((1, 20))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / "a.arrow").write_bytes(data)
        for record in read_file(tmp_path / "a.arrow", 1500):
            assert (record.text is None) != (record.reason is None)
