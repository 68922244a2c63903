"""Arrow files, web archives and dumps behind a URL give the records of the same files on a disk, whole and cut."""

import bz2
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.base.storage import place_of, upload
from pipeline.corpus.files import find_files
from pipeline.corpus.records import Record, Tally
from pipeline.corpus.tasks import plan_tasks, read_span
from tests.pipeline.corpus.test_arrow_files import TEXTS, write
from tests.pipeline.corpus.test_mediawiki_files import CLOSE, HEAD, PAGES, many_streams
from tests.pipeline.corpus.test_warc_files import wet
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow


def read(place: str, task_bytes: int) -> list[Record]:
    spans = [span for task in plan_tasks(find_files([place]), task_bytes) for span in task.spans]
    return [record._replace(line=0) for span in spans for record in read_span(span, "text", 1 << 20, Tally(), "url")]


def test_the_same_records(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "corpus"
    folder.mkdir()
    write(folder / "a.arrow", pa.array(TEXTS))
    write(folder / "b.arrow", pa.array(TEXTS), "file", "zstd")
    (folder / "c.arrow").write_bytes((folder / "b.arrow").read_bytes()[:5000])
    (folder / "d.wet.gz").write_bytes(wet(60, packed=True))
    (folder / "e.wet").write_bytes(wet(60, packed=False)[:-20])
    (folder / "f.xml").write_text(HEAD + "".join(PAGES) + CLOSE)
    (folder / "g.xml.bz2").write_bytes(many_streams(PAGES))
    (folder / "h.jsonl.bz2").write_bytes(bz2.compress(b'{"text": "a", "url": "b"}\n'))
    pq.write_table(pa.table({"text": TEXTS, "url": TEXTS}), folder / "i.parquet", row_group_size=70)
    write(folder / "cache-0123abc.arrow", pa.array(TEXTS))
    for path in folder.iterdir():
        upload(path, place_of(f"{s3.url}/corpus/{path.name}"))
    names = [file.name for file in find_files([str(folder)])]
    assert [file.name for file in find_files([f"{s3.url}/corpus"])] == names
    assert len(names) == 9
    for task_bytes in (1 << 25, 4096):
        for name in names:
            assert read(f"{s3.url}/corpus/{name}", task_bytes) == read(str(folder / name), task_bytes), name
