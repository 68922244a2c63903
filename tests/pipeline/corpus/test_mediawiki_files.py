"""MediaWiki dumps: articles alone, however the dump is packed and cut; broken pages cost no other."""

import bz2
import gzip
import random
from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest
import zstandard

from pipeline.corpus.files import find_files, kind_of
from tests.pipeline.corpus.reading import LIMIT, read_file, reasons_of, texts_of

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
  <siteinfo>
    <sitename>Wiki</sitename>
    <base>https://de.example.org/wiki/Hauptseite</base>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
CLOSE = "</mediawiki>\n"


def page(title: str, text: str, ns: int = 0, more: str = "", model: str = "wikitext") -> str:
    """A <page> as MediaWiki exports it."""
    return f"""  <page>
    <title>{escape(title)}</title>
    <ns>{ns}</ns>
    <id>7</id>{more}
    <revision>
      <id>1</id>
      <contributor><username>Someone</username><id>3</id></contributor>
      <model>{model}</model>
      <text bytes="{len(text)}" xml:space="preserve">{escape(text)}</text>
    </revision>
  </page>
"""


def article(number: int) -> str:
    words = "and [[more|many more]] words " * (number % 30)
    return page(f"Title {number} ü", f"'''Page {number}''' is élan & <b>bold</b>.{words}[[Kategorie:X]]")


PAGES = [article(number) for number in range(300)]
TEXTS = [
    f"Title {number} ü\n\nPage {number} is élan & bold." + ("and many more words " * (number % 30)).rstrip()
    for number in range(300)
]


def one_stream(pages: list[str]) -> bytes:
    return bz2.compress((HEAD + "".join(pages) + CLOSE).encode())


def many_streams(pages: list[str]) -> bytes:
    """As Wikipedia's multistream dumps: so many pages a stream, the head and the end by themselves."""
    parts = [HEAD, *("".join(pages[first : first + 20]) for first in range(0, len(pages), 20)), CLOSE]
    return b"".join(bz2.compress(part.encode()) for part in parts)


def streams_of_any_size(pages: list[str]) -> bytes:
    """As parallel packers write them: pages and tags go on from one stream into the next."""
    data = (HEAD + "".join(pages) + CLOSE).encode()
    return b"".join(bz2.compress(data[first : first + 777]) for first in range(0, len(data), 777))


@pytest.mark.parametrize("task_bytes", [1 << 25, 1024, 20_000])
@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.xml", lambda pages: (HEAD + "".join(pages) + CLOSE).encode()),
        ("a.xml.gz", lambda pages: gzip.compress((HEAD + "".join(pages) + CLOSE).encode())),
        ("a.xml.zst", lambda pages: zstandard.compress((HEAD + "".join(pages) + CLOSE).encode())),
        ("a.xml.bz2", one_stream),
        ("a.xml-p1p41242.bz2", many_streams),
        ("b.xml.bz2", streams_of_any_size),
    ],
)
def test_every_page_once(tmp_path: Path, name: str, pack: Callable[[list[str]], bytes], task_bytes: int) -> None:
    (tmp_path / name).write_bytes(pack(PAGES))
    found = read_file(tmp_path / name, task_bytes)
    assert [record.text for record in found] == TEXTS
    assert [record.line for record in found] == list(range(1, 301))
    assert found[5].url == "https://de.example.org/wiki/Title_5_%C3%BC"


def test_what_is_passed_over(tmp_path: Path) -> None:
    pages = [
        page("Article", "text"),
        page("Redirect", "#REDIRECT [[Article]]", more='<redirect title="Article" />'),
        page("Old redirect", "#redirect [[Article]]"),
        page("Talk:Article", "talk", ns=1),
        page("Data", "{}", model="json"),
        page("Only a template", "{{disambiguation}}\n[[Kategorie:X]]"),
        page("Empty", ""),
        page("Last", "one [[Datei:x.jpg|mini|of two]]"),
    ]
    (tmp_path / "a.xml").write_text(HEAD + "".join(pages) + CLOSE)
    assert [(record.line, record.text) for record in read_file(tmp_path / "a.xml")] == [
        (1, "Article\n\ntext"),
        (8, "Last\n\none"),
    ]


def test_of_a_history_the_last_revision_is_taken(tmp_path: Path) -> None:
    older = "<revision><model>wikitext</model><text>an older text</text></revision>"
    (tmp_path / "a.xml").write_text(HEAD + page("Article", "the text", more=older) + CLOSE)
    assert texts_of(read_file(tmp_path / "a.xml")) == ["Article\n\nthe text"]


def test_bad_pages_one_by_one(tmp_path: Path) -> None:
    pages = list(PAGES[:9])
    pages[1] = pages[1].replace("<title>", "<title><&")
    pages[3] = pages[3].replace("</page>", "")
    pages[5] = page("Long", "x" * (LIMIT + 1))
    pages[7] = page("Entity", "x").replace("<text ", "<text>&lol;</text><text ")
    (tmp_path / "a.xml").write_text(HEAD + "".join(pages) + CLOSE)
    found = read_file(tmp_path / "a.xml")
    assert [record.line for record in found] == list(range(1, 10))
    assert texts_of(found) == [text for number, text in enumerate(TEXTS[:9]) if number not in (1, 3, 5, 7)]
    assert reasons_of(found) == [
        "damaged XML: not well-formed (invalid token)",
        "damaged XML: a page without an end",
        f"too long: over corpus.max_record_bytes ({LIMIT})",
        "damaged XML: undefined entity",
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("plain text, no XML at all\n", "damaged XML: syntax error"),
        ("<rss><page>a</page></rss>", "damaged XML: no MediaWiki dump, it begins with <rss>"),
        (
            '<!DOCTYPE m [<!ENTITY a "aaaa">]><mediawiki><page><title>&a;</title></page></mediawiki>',
            "damaged XML: it has a document type, as no MediaWiki dump does",
        ),
        ("<mediawiki>", "truncated XML: the end of the dump is missing"),
    ],
)
def test_not_what_the_name_says(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "a.xml").write_text(content)
    assert [(record.line, record.reason) for record in read_file(tmp_path / "a.xml")] == [(1, told)]


def test_a_dump_without_pages_and_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(HEAD + CLOSE)
    assert read_file(tmp_path / "a.xml") == []
    (tmp_path / "a.xml").write_text("")
    assert reasons_of(read_file(tmp_path / "a.xml")) == ["truncated XML: the file is empty"]


def test_a_truncated_dump_keeps_what_could_be_read(tmp_path: Path) -> None:
    whole = (HEAD + "".join(PAGES)).encode()
    path = tmp_path / "a.xml"
    path.write_bytes(whole)
    found = read_file(path)
    assert (texts_of(found), reasons_of(found)) == (TEXTS, ["truncated XML: the end of the dump is missing"])
    path.write_bytes(whole[:-50])
    found = read_file(path)
    assert (texts_of(found), reasons_of(found)) == (TEXTS[:-1], ["truncated XML: it ends inside a page"])
    packed = tmp_path / "a.xml.bz2"
    packed.write_bytes(many_streams(PAGES)[:-200])
    found = read_file(packed, 4096)
    assert texts_of(found) == TEXTS[: len(found) - 1]
    assert len(found) > 270
    assert reasons_of(found) == ["truncated bzip2: it ends inside a stream"]


@pytest.mark.parametrize("task_bytes", [1 << 25, 2000])
def test_a_broken_stream_costs_its_pages_alone(tmp_path: Path, task_bytes: int) -> None:
    data = bytearray(many_streams(PAGES))
    starts = [place for place in range(len(data)) if data.startswith(b"BZh91AY&SY", place)]
    data[starts[5] + 100] ^= 0xFF
    (tmp_path / "a.xml.bz2").write_bytes(data)
    found = read_file(tmp_path / "a.xml.bz2", task_bytes)
    assert texts_of(found) == TEXTS[:80] + TEXTS[100:]
    assert reasons_of(found) == ["damaged bzip2: Invalid data stream"]


@pytest.mark.parametrize("name", ["a.xml", "a.xml.bz2"])
def test_broken_bytes_never_give_a_wrong_kind_of_error(tmp_path: Path, name: str) -> None:
    whole = many_streams(PAGES[:60]) if name.endswith("bz2") else (HEAD + "".join(PAGES[:60]) + CLOSE).encode()
    for seed in range(60):
        draw, data = random.Random(seed), bytearray(whole)
        for _ in range(draw.choice((1, 20))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / name).write_bytes(data)
        for record in read_file(tmp_path / name, draw.choice((1 << 25, 2000))):
            assert (record.text is None) != (record.reason is None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("enwiki-20260101-pages-articles1.xml-p1p41242.bz2", (".xml", ".bz2")),
        ("a.xml-p1p41242", (".xml", "")),
        ("a.warc.wet.gz", (".wet", ".gz")),
        ("a.warc.wat.gz", None),
        ("A.XML.BZ2", (".xml", ".bz2")),
        ("a.xml.txt", (".txt", "")),
    ],
)
def test_names(name: str, kind: tuple[str, str] | None) -> None:
    assert kind_of(name) == kind


def test_the_index_beside_a_dump_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "dewiki-pages-articles-multistream.xml.bz2").write_bytes(many_streams(PAGES[:3]))
    (tmp_path / "dewiki-pages-articles-multistream-index.txt.bz2").write_bytes(bz2.compress(b"566:7:Title\n"))
    (found,) = find_files([str(tmp_path)])
    assert found.kind == ".xml"
