"""A corpus behind URLs: files, their order and records are those of a disk; servers that break off are waited for."""

import gzip
import json
import random
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.base.errors import UserError
from pipeline.base.storage import place_of, upload
from pipeline.base.stores import faults
from pipeline.corpus import opening
from pipeline.corpus.files import find_files
from pipeline.corpus.opening import open_input
from pipeline.corpus.records import Tally
from pipeline.corpus.tasks import plan_tasks, read_span
from tests.s3_server import SECRET, S3Server
from tests.web_server import web_server

pytestmark = pytest.mark.slow
TEXTS = [f"Document {number}: élan, 漢字.\nand a second line." for number in range(60)]
NAMES = (
    "b.txt",
    "a.JSONL.gz",
    "sub/c.parquet",
    "sub/d.txt.zst",
    "sub/notes.md",
    "sub/deeper/e.jsonl",
    "sub/.hidden/f.txt",
    ".hidden.txt",
    "x[1].txt",
    "part-1.txt",
    "part-10.txt",
)
ENTRIES = (
    "",
    "sub",
    "b.txt",
    "x[1].txt",
    "*",
    "**",
    "*.txt",
    "part-?.txt",
    "[a-c]*",
    "s*",
    "s*/*",
    "s*/d*",
    "**/*.txt",
    "**/deeper/*",
    "sub/**",
    "sub/**/e.jsonl",
    ".*",
    "sub/.h*/*",
)


def put_all(folder: Path, url: str) -> None:
    """The folder's files below a URL."""
    for path in folder.rglob("*"):
        if path.is_file():
            upload(path, place_of(url) / path.relative_to(folder).as_posix())


def records(path: str, task_bytes: int = 1 << 25) -> list[tuple[Any, ...]]:
    """What every record of a file says, read task by task."""
    found = []
    for task in plan_tasks(find_files([path]), task_bytes):
        for span in task.spans:
            found += [(r.line, r.size, r.text, r.reason) for r in read_span(span, "text", 1 << 20, Tally())]
    return found


def content_of(kind: str, packing: str, folder: Path) -> bytes:
    if kind == ".txt":
        content = "\n\n".join(TEXTS).encode()
    elif kind == ".jsonl":
        content = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode() + b"{broken\n"
    else:
        pq.write_table(pa.table({"id": range(len(TEXTS)), "text": TEXTS}), folder / "made", row_group_size=7)
        content = (folder / "made").read_bytes()
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[packing]
    return pack(content)


def test_files_and_their_order_are_those_of_a_folder(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode())
    put_all(tmp_path, s3.url)
    place_of(f"{s3.url}/in/").fs.touch(f"{s3.bucket}/in/sub/")  # as web consoles mark a folder
    monkeypatch.chdir(tmp_path)
    for entry in ENTRIES:
        here = find_files([f"in/{entry}".rstrip("/")])
        there = find_files([f"{s3.url}/in/{entry}".rstrip("/")])
        assert [file.path for file in there] == [f"{s3.url}/{file.path}" for file in here], entry
        for mine, theirs in zip(here, there, strict=True):
            assert (theirs.name, theirs.kind, theirs.packing, theirs.size) == (
                mine.name,
                mine.kind,
                mine.packing,
                mine.size,
            )
            assert theirs.place == theirs.path
    assert len(find_files([f"{s3.url}/in/sub", f"{s3.url}/in", "in/b.txt", "file://" + str(tmp_path / "in")])) == 16


def test_a_change_is_noticed(s3: S3Server, tmp_path: Path) -> None:
    place, here = place_of(f"{s3.url}/a.txt"), tmp_path / "a.txt"
    seen = set()
    for content in (b"one", b"two"):
        place.write_bytes(content)
        here.write_bytes(content)
        seen |= {file.changed for file in find_files([str(place), str(here), s3.url])}
        time.sleep(0.01)
    assert len(seen) == 4
    assert "" not in seen


def test_what_the_run_itself_writes_is_no_corpus(s3: S3Server) -> None:
    for name in ("mine.txt", "run/data/q.jsonl", "running/b.txt"):
        place_of(f"{s3.url}/{name}").write_bytes(b"x")
    own = place_of(f"{s3.url}/run")
    assert [file.name for file in find_files([s3.url], own)] == ["mine.txt", "running/b.txt"]
    assert [file.name for file in find_files([f"{s3.url}/run/data"], own)] == ["q.jsonl"]


def test_names_in_a_store(s3: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    """Hidden names are looked at no further, what the run writes is not named, and a key is no secret."""
    for name in ("a.txt", ".hid/z.jsonl.xz", "d/t?token=1.txt", "more.json", "run/data/manifest.json"):
        (place_of(s3.url) / name).write_bytes(b"some text")
    with caplog.at_level("WARNING"):
        files = find_files([s3.url], place_of(f"{s3.url}/run"))
    assert [file.name for file in files] == ["a.txt", "d/t?token=1.txt"]
    assert "more.json" in caplog.text
    assert "manifest.json" not in caplog.text
    for task in plan_tasks(files, 4):
        for span in task.spans:
            assert all(record.reason is None for record in read_span(span, "text", 1 << 20, Tally()))
    with pytest.raises(UserError, match=r"t\?\*\*\* holds a user, a password or a signature"):
        find_files([f"{s3.url}/d/t?token=1.txt"])


def test_two_spellings_of_one_file_of_a_web_server(tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_text("text")
    (tmp_path / "é.txt").write_text("text")
    with web_server(tmp_path) as server:
        names = ("a%20b.txt", "a b.txt", "é.txt", "%C3%A9.txt")
        assert len(find_files([f"{server.url}/{name}" for name in names])) == 2


def test_what_cannot_be_read_is_named(s3: S3Server, tmp_path: Path) -> None:
    place_of(f"{s3.url}/sub/notes.md").write_bytes(b"x")
    with web_server(tmp_path) as server:
        entries = {
            f"{s3.url}/none.txt": "does not exist",
            f"{s3.url}/none/*.txt": "matches nothing",
            f"{s3.url}/sub": "holds no file that is",
            f"{s3.url}/sub/notes.md": "is not .txt",
            f"{s3.url}/sub/*.md": "matches 1 names, but no file",
            "s3://no-such-bucket-of-ours/a.txt": "does not exist",
            "ftp://host/a.txt": "the scheme ftp:// is not known",
            f"s3://{'me'}:hidden@bucket/a.txt": "s3://***@bucket/a.txt holds a user",
            f"{server.url}/": "A web server lists nothing",
            f"{server.url}/*.txt": "A web server lists nothing",
            f"{server.url}/none.txt": "there is nothing of that name",
        }
        with pytest.raises(UserError, match=r"corpus\.paths") as error:
            find_files([f"{s3.url}/sub", *entries])
    for entry, message in entries.items():
        assert any(message in line for line in str(error.value).splitlines()), entry
    assert "hidden" not in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".parquet"])
def test_records_are_those_of_a_local_file(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, packing: str
) -> None:
    path = tmp_path / f"a{kind}{packing}"
    path.write_bytes(content_of(kind, packing, tmp_path))
    upload(path, place_of(s3.url) / path.name)
    expected, in_pieces = records(str(path)), records(str(path), 1800)
    assert [text for _, _, text, _ in expected if text is not None] == TEXTS
    assert records(f"{s3.url}/{path.name}") == expected
    monkeypatch.setattr(opening, "FIRST_BLOCK", 500)
    monkeypatch.setattr(opening, "BLOCK", 1500)
    assert records(f"{s3.url}/{path.name}", 1800) == in_pieces
    for ranges in (True, False):
        with web_server(tmp_path, ranges) as server:
            assert records(f"{server.url}/{path.name}", 1800) == in_pieces


def test_a_stream_reads_and_seeks_as_a_local_file(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "FIRST_BLOCK", 10_000)
    monkeypatch.setattr(opening, "BLOCK", 70_000)
    draw = random.Random(1)
    path = tmp_path / "a.bin"
    path.write_bytes(draw.randbytes(500_000))
    place = place_of(f"{s3.url}/a.bin")
    upload(path, place)
    with open_input(str(path), 5) as here, open_input(str(place), 5, 200_000) as there:
        for _ in range(60):
            size = draw.choice([0, 1, 1000, 33_000, 160_000])
            assert there.read(size) == here.read(size)
            assert there.tell() == here.tell()
            if draw.random() < 0.3:
                offset, whence = draw.choice([(0, 0), (123_456, 0), (-3000, 2), (0, 2)])
                assert there.seek(offset, whence) == here.seek(offset, whence)
        assert there.readline() == here.readline()
        assert there.read() == here.read()


def test_no_more_is_fetched_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "FIRST_BLOCK", 1000)
    monkeypatch.setattr(opening, "BLOCK", 8000)
    (tmp_path / "a.txt").write_bytes(b"x" * 100_000)
    with web_server(tmp_path) as server:
        with open_input(f"{server.url}/a.txt", 10_000, 30_000) as file:
            assert len(file.read(20_000)) == 20_000
        ranges = sorted(
            tuple(map(int, asked[6:].split("-"))) for _, _, asked in server.asked if asked and asked != "bytes=0-0"
        )
    assert ranges[0][0] == 10_000
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(ranges))
    assert ranges[-1][1] == 29_999


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_server_that_dies_while_a_file_is_read_and_comes_back(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(opening, "BLOCK", 1 << 20)
    draw = random.Random(1)
    texts = [f"{number} {draw.randbytes(40_000).hex()}" for number in range(60)]
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.table({"text": texts}), path, row_group_size=20)
    else:
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        path.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    upload(path, place_of(f"{s3.url}/{name}"))
    [file] = find_files([f"{s3.url}/{name}"])
    [span] = next(iter(plan_tasks([file], 1 << 25))).spans
    s3.restart(dies_after=1_300_000)
    back = threading.Thread(target=lambda: (s3.ended(), s3.start_later(1).join()))
    back.start()
    assert [record.text for record in read_span(span, "text", 1 << 20, Tally())] == texts
    back.join()


def test_a_server_that_stays_away_is_told_once(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "PATIENCE", 1.0)
    for name in ("a.txt", "b.jsonl", "c.parquet", "d.txt.gz"):
        place_of(f"{s3.url}/{name}").write_bytes(b"x")
    files = find_files([s3.url])
    spans = [span for task in plan_tasks(files[:2], 1 << 20) for span in task.spans]
    s3.kill()
    for span in spans:
        with pytest.raises(UserError, match=r"was away or busy for 1 seconds.*start the same command again"):
            list(read_span(span, "text", 1 << 20, Tally()))
    with pytest.raises(UserError, match="was away or busy") as error:
        find_files([f"{s3.url}/a.txt", f"{s3.url}/b.jsonl"])
    assert str(error.value).count("away") == 1
    with pytest.raises(UserError, match="was away or busy"):
        list(plan_tasks(files, 1 << 20))


def test_an_object_that_got_shorter_is_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "FIRST_BLOCK", 1000)
    place = place_of(f"{s3.url}/a.txt")
    place.write_bytes(b"x" * 10_000_000)
    with open_input(str(place)) as file:
        file.read(500)
        place.write_bytes(b"x")
        with pytest.raises(UserError, match="changed while it was read"):
            file.read()
    place.unlink()
    with pytest.raises(UserError, match="there is nothing of that name"), open_input(str(place)) as file:
        file.read()


def test_a_disk_that_fails_in_the_middle_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost mount answers ESTALE to the next read; /proc/self/mem answers EIO to the first."""
    with (
        pytest.raises(UserError, match=r"cannot read /proc/self/mem: Input/output error\. Mend it and start the same"),
        open_input("/proc/self/mem") as file,
    ):
        file.read(10)
    with pytest.raises(UserError, match=r"cannot read .*none\.txt: No such file"):
        open_input(str(tmp_path / "none.txt"))
