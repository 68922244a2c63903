"""Web archives written by warcio: what is text is read, what is not is passed over, and damage costs one record."""

import bz2
import gzip
import io
import random
import re
import zlib
from pathlib import Path

import brotli
import pytest
import zstandard
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from pipeline.corpus.html import html_text
from pipeline.corpus.http import read_answer
from tests.pipeline.corpus.reading import LIMIT, read_file, reasons_of, texts_of

PARAGRAPH = "Élan vital is number {} of the paragraphs that have enough words to be the main content of a page."
PAGE = (
    "<html><head><title>T</title><script>var x</script></head><body><nav><a href='/'>Home</a> <a href='/b'>About</a>"
    f"</nav><article><h1>Head</h1><p>{PARAGRAPH}</p></article><footer>All rights reserved</footer></body></html>"
)


class Archive:
    """Writes records one after the other; `data` is the file."""

    def __init__(self, packed: bool) -> None:
        self.file = io.BytesIO()
        self.writer = WARCWriter(self.file, gzip=packed)
        self.writer.write_record(self.writer.create_warcinfo_record("a.warc", {"software": "test"}))

    def text(self, text: bytes, kind: str = "text/plain") -> None:
        """A conversion record, as WET files hold."""
        self._add("conversion", text, warc_content_type=kind)

    def answer(self, body: bytes, kind: str = "text/html; charset=utf-8", status: str = "200 OK", **more: str) -> None:
        """A request and its response."""
        get = StatusAndHeaders("GET / HTTP/1.1", [], is_http_request=True)
        self._add("request", b"", http_headers=get)
        fields = [("Content-Type", kind), *((name.replace("_", "-"), value) for name, value in more.items())]
        self._add("response", body, http_headers=StatusAndHeaders(status, fields, protocol="HTTP/1.1"))

    def _add(self, kind: str, body: bytes, **more: object) -> None:
        url = f"https://example.org/{self.file.tell()}"
        self.writer.write_record(self.writer.create_warc_record(url, kind, payload=io.BytesIO(body), **more))

    @property
    def data(self) -> bytes:
        return self.file.getvalue()


def wet(count: int, packed: bool) -> bytes:
    """So many conversion records."""
    archive = Archive(packed)
    for number in range(count):
        archive.text(f"Text {number}: élan\r\n漢字\n".encode())
    return archive.data


EXPECTED = [f"Text {number}: élan\n漢字" for number in range(60)]


@pytest.mark.parametrize("name", ["a.wet", "a.warc", "a.warc.wet.gz", "a.wet.zst", "a.warc.bz2"])
def test_text_records(tmp_path: Path, name: str) -> None:
    data = wet(60, packed=name.endswith(".gz"))
    pack = {"zst": zstandard.compress, "bz2": bz2.compress}.get(name.rpartition(".")[2], bytes)
    (tmp_path / name).write_bytes(pack(data))
    found = read_file(tmp_path / name)
    assert [record.text for record in found] == EXPECTED
    assert [record.line for record in found] == list(range(2, 62))  # the first one describes the file
    assert all(record.url.startswith("https://example.org/") for record in found)


@pytest.mark.parametrize("packed", [False, True])
def test_pages(tmp_path: Path, packed: bool) -> None:
    archive = Archive(packed)
    page = PAGE.format(7).encode()
    archive.answer(page)
    archive.answer(gzip.compress(page), Content_Encoding="gzip")
    archive.answer(zlib.compress(page), Content_Encoding="deflate")
    archive.answer(brotli.compress(page), Content_Encoding="br")
    archive.answer(page, Content_Encoding="gzip")  # decoded by the crawler, whose header tells the old tale
    archive.answer(b"%x\r\n%b\r\n0\r\n\r\n" % (len(page), page), Transfer_Encoding="chunked")
    archive.answer(PAGE.format(7).encode("windows-1252"), kind="text/html; charset=iso-8859-1")
    archive.answer(PAGE.format(7).replace("<title>", "<meta charset=cp1252><title>").encode("cp1252"), kind="text/html")
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(archive.data)
    found = read_file(path)
    assert [record.text for record in found] == [f"Head\n\n{PARAGRAPH.format(7)}"] * 8
    assert [record.line for record in found] == [3, 5, 7, 9, 11, 13, 15, 17]


def test_what_is_passed_over(tmp_path: Path) -> None:
    archive = Archive(packed=False)
    archive.answer(b"\x89PNG", kind="image/png")
    archive.answer(PAGE.encode(), status="404 Not Found")
    archive.answer(b"", status="301 Moved")
    archive.answer(b"<html><body><script>render()</script></body></html>")
    archive.answer(b"{}", kind="application/json")
    archive.answer("täxt".encode("latin-1"), kind="text/plain; charset=latin-1")
    archive.text(b"<p>a page</p>", kind="text/html")
    archive._add("resource", b"a resource", warc_content_type="text/plain")
    archive._add("metadata", b"fetchTimeMs: 7", warc_content_type="application/warc-fields")
    (tmp_path / "a.warc").write_bytes(archive.data)
    assert [(record.line, record.text) for record in read_file(tmp_path / "a.warc")] == [
        (13, "täxt"),
        (14, "a page"),
        (15, "a resource"),
    ]


def test_bad_records(tmp_path: Path) -> None:
    archive = Archive(packed=False)
    archive.text(b"good")
    archive.text(b"b\xc3d")
    archive.text(b" \n")
    archive.text(b"x" * (LIMIT + 1))
    archive.answer(gzip.compress(b"<p>" + b"x " * LIMIT), Content_Encoding="gzip")
    archive.text(b"good too")
    (tmp_path / "a.wet").write_bytes(archive.data)
    found = read_file(tmp_path / "a.wet")
    assert texts_of(found) == ["good", "good too"]
    assert [record.line for record in found] == [2, 3, 4, 5, 7, 8]
    too_long = f"too long: over corpus.max_record_bytes ({LIMIT})"
    assert reasons_of(found) == ["invalid UTF-8: byte 2 of the record", "no visible character", too_long, too_long]


def test_a_broken_member_costs_its_record_alone(tmp_path: Path) -> None:
    data = bytearray(wet(60, packed=True))
    members = [found.start() for found in re.finditer(rb"\x1f\x8b\x08", data)]
    assert len(members) == 61
    for number, place in ((10, 200), (20, -6), (30, 40)):  # in the content; in the checksum; in its beginning
        data[members[number + (place < 0)] + place] ^= 0xFF
    (tmp_path / "a.wet.gz").write_bytes(data)
    found = read_file(tmp_path / "a.wet.gz")
    assert len(found) == 60
    assert all(reason.startswith("damaged ") for reason in reasons_of(found))  # what is hit differs with the record ids
    assert [record.line - 2 for record in found if record.reason] == [9, 19, 29]
    assert texts_of(found) == [text for number, text in enumerate(EXPECTED) if number not in (9, 19, 29)]


def test_a_wrong_length_costs_its_record_alone(tmp_path: Path) -> None:
    data = wet(60, packed=False)
    at = [found.start() for found in re.finditer(rb"Content-Length: ", data)][31]
    wrong = data[:at] + re.sub(rb"\d\d", b"11", data[at:], count=1)
    (tmp_path / "a.wet").write_bytes(wrong)
    found = read_file(tmp_path / "a.wet")
    assert reasons_of(found) == ["damaged WARC: no record begins where one should"]
    assert texts_of(found) == EXPECTED[:30] + EXPECTED[31:]


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_file_keeps_what_could_be_read(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("a.wet.gz" if packed else "a.wet")
    path.write_bytes(wet(60, packed)[:-30])
    found = read_file(path)
    assert texts_of(found) == EXPECTED[:-1]
    told = "truncated gzip: it ends inside a member" if packed else "truncated WARC: it ends inside a record"
    assert reasons_of(found) == [told]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.wet.zst"])
def test_not_what_the_name_says(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"plain text, not what the name says\n" * 3)
    (record,) = read_file(tmp_path / name)
    assert (record.line, (record.reason or "")[:8]) == (1, "damaged ")
    (tmp_path / name).write_bytes(b"")
    (record,) = read_file(tmp_path / name)
    assert (record.reason or "").endswith(": the file is empty")


@pytest.mark.parametrize("packed", [False, True])
def test_broken_bytes_never_give_a_wrong_kind_of_error(tmp_path: Path, packed: bool) -> None:
    whole = wet(60, packed)
    path = tmp_path / ("a.wet.gz" if packed else "a.wet")
    for seed in range(60):
        draw, data = random.Random(seed), bytearray(whole)
        for _ in range(draw.choice((1, 20))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        found = read_file(path)
        assert not packed or set(texts_of(found)) <= set(EXPECTED)  # checksums let no altered text through


def test_what_a_body_expands_to_is_bounded() -> None:
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress)):
        answer = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n\r\n".encode() + pack(b"\0" * 50_000_000)
        content = read_answer(answer, 1000)
        assert content is not None
        assert 1000 <= len(content.body) < 100_000


def test_a_deeply_nested_page_takes_no_long_time() -> None:
    assert html_text("<div>" * 100_000 + "deep") == "deep"
