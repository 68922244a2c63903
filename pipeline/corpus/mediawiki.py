"""MediaWiki dumps (XML, as Wikipedia's pages-articles): a record a page of the main namespace that has text.

The title is the first line; wikitext.py makes the text. Redirects, other namespaces, other content models and pages
without text are passed over: they are counted as lines, not as bad. Of a page with its history the last revision is
taken. Each page is parsed by itself, so a broken one costs no other, and a range of bytes owns the pages that begin in
it (of bzip2: in streams that begin in it). A document type, and with it every entity but XML's own, is refused.
Price: a page's text is held whole, at most corpus.max_record_bytes of it.
"""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote
from xml.parsers import expat

from pipeline.corpus.bzip2 import read_streams
from pipeline.corpus.records import Record, Tally, record_of, too_long
from pipeline.corpus.streams import Damage, read_chunks
from pipeline.corpus.wikitext import SILENT, plain_text
from pipeline.corpus.xml_pages import BEGIN, Pages

HEAD_BYTES = 1 << 20
"""The description of the wiki stands in them, before the first page."""
SILENT_KEYS = ("-2", "6", "14")
"""Numbers of the namespaces Media, File and Category, whose names differ from wiki to wiki."""


class Site(NamedTuple):
    """What a dump says of its wiki. articles: what stands before a title in a page's URL."""

    articles: str = ""
    silent: frozenset[str] = SILENT


def read_mediawiki(path: str, packing: str, start: int, stop: int | None, limit: int, tally: Tally) -> Iterator[Record]:
    """Records of the pages that begin in the bytes [start, stop); stop None: to the end. `tally` counts all pages."""
    try:
        site = _site(path, packing)
    except Damage as damage:
        if start == 0:
            tally.lines += 1
            yield Record(tally.lines, 0, reason=str(damage))
        return
    pages = Pages(_pieces(path, packing, start, stop))
    whole = True
    while True:
        counted = False
        try:
            if not pages.enter():
                break
            tally.lines += 1
            counted = whole = True
            record = _PageParser(limit).read(pages, site, tally.lines)
            if record is not None:
                yield record
        except Damage as damage:
            tally.lines += not counted
            whole = False
            yield Record(tally.lines, 0, reason=str(damage))
    if pages.cut_off and whole and (start == 0 or tally.lines):
        tally.lines += 1
        yield Record(tally.lines, 0, reason="truncated XML: the end of the dump is missing")


def _pieces(path: str, packing: str, start: int, stop: int | None) -> Iterator[tuple[bytes | Damage, bool]]:
    """The content from byte `start` on, each piece with whether it lies before `stop`."""
    if packing == ".bz2":
        yield from read_streams(path, start, stop)
        return
    place = start
    try:
        for chunk in read_chunks(path, packing, start, stop):
            inside = len(chunk) if stop is None else min(len(chunk), max(0, stop - place))
            place += len(chunk)
            if inside:
                yield chunk[:inside], True
            if inside < len(chunk):
                yield chunk[inside:], False
    except Damage as damage:
        yield damage, True


def _site(path: str, packing: str) -> Site:
    """What the head of a dump says; nothing where it cannot be read. Raises Damage where the file is no dump."""
    head = b""
    try:
        for chunk in read_chunks(path, packing, 0, HEAD_BYTES):
            head += chunk
            if BEGIN in head or len(head) >= HEAD_BYTES:
                break
    except Damage:
        return Site()
    return _HeadParser().read(head.partition(BEGIN)[0])


class _Parser:
    """Parses a piece of XML, in parts; subclasses say which elements' texts are wanted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.path: list[str] = []
        """Names of the elements that are open."""
        self._text: list[str] | None = None
        self._size = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse

    def feed(self, data: bytes) -> None:
        """Parses more. Raises Damage where it is not well-formed."""
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError as error:
            raise Damage(f"damaged XML: {expat.ErrorString(error.code)}") from None

    def begin(self, attributes: dict[str, str]) -> bool:
        """Of an element that begins: whether its text is wanted."""
        raise NotImplementedError

    def end(self, text: str | None) -> None:
        """Of a wanted element that ends: its text, None where it is longer than the limit."""
        raise NotImplementedError

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.path.append(name)
        self._text, self._size = ([] if self.begin(attributes) else None), 0

    def _end(self, name: str) -> None:
        if self._text is not None:
            self.end("".join(self._text) if self._size <= self.limit else None)
        self._text = None
        self.path.pop()

    def _characters(self, data: str) -> None:
        if self._text is not None:
            self._size += len(data)
            if self._size <= self.limit:
                self._text.append(data)

    def _refuse(self, *_: object) -> None:
        raise Damage("damaged XML: it has a document type, as no MediaWiki dump does")


class _HeadParser(_Parser):
    def __init__(self) -> None:
        super().__init__(HEAD_BYTES)
        self.base = ""
        self.silent = set(SILENT)
        self._key = ""

    def read(self, head: bytes) -> Site:
        self.feed(head)
        return Site(f"{self.base.rpartition('/')[0]}/" if "/" in self.base else "", frozenset(self.silent))

    def begin(self, attributes: dict[str, str]) -> bool:
        if self.path[0] != "mediawiki":
            raise Damage(f"damaged XML: no MediaWiki dump, it begins with <{self.path[0][:50]}>")
        self._key = attributes.get("key", "")
        return self.path[-1] in ("base", "namespace")

    def end(self, text: str | None) -> None:
        if self.path[-1] == "base":
            self.base = text or ""
        elif self._key in SILENT_KEYS and text:
            self.silent.add(text.lower())


class _PageParser(_Parser):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.found: dict[str, str | None] = {}
        self.redirect = False

    def read(self, pages: Pages, site: Site, number: int) -> Record | None:
        """The record of the page that was entered; None where it is passed over."""
        size = len(BEGIN)
        self.feed(BEGIN)
        for part in pages.rest():
            size += len(part)
            self.feed(part)
        title, text = self.found.get("title") or "", self.found.get("text", "")
        if self.redirect or self.found.get("ns", "0") != "0" or self.found.get("model", "wikitext") != "wikitext":
            return None
        if text is None:
            return Record(number, size, reason=too_long(self.limit))
        if text.lstrip()[:9].lower() == "#redirect":
            return None
        plain = plain_text(text, site.silent)
        url = site.articles and site.articles + quote(title.replace(" ", "_"), safe="/:@!$*(),;~")
        return record_of(number, size, f"{title}\n\n{plain}", url) if plain else None

    def begin(self, attributes: dict[str, str]) -> bool:
        match self.path:
            case ["page", "redirect"]:
                self.redirect = True
            case ["page", "revision"]:  # of several the last is taken
                self.found.pop("text", None)
                self.found.pop("model", None)
            case ["page", "title" | "ns"] | ["page", "revision", "model" | "text"]:
                return True
        return False

    def end(self, text: str | None) -> None:
        self.found[self.path[-1]] = text
