"""Web archives: WARC and WET files (Common Crawl's, or any crawler's) to records, one a page that has text.

A `conversion` record (WET) is its text as it stands; of a `response` or `resource` record, plain text is, and a web
page's main content is taken (html.py). Other records, other types, answers other than 2xx and pages without text are
passed over: they are counted as lines, not as bad. ISO 28500:2017 has the format. Price: a record is held whole, at
most corpus.max_record_bytes of it; a file is read by one worker.
"""

import re
from collections.abc import Iterator, Mapping

from pipeline.corpus.html import decode, html_text
from pipeline.corpus.http import Content, content_type, read_answer
from pipeline.corpus.members import Source, read_source
from pipeline.corpus.records import Record, Tally, record_of, too_long
from pipeline.corpus.streams import Damage

BEGINS = b"WARC/"
LONGEST_LINE = 1 << 16
MOST_FIELDS = 1 << 8
CONVERSION = "conversion"
READ_TYPES = (CONVERSION, "response", "resource")
HTTP_HEADER = 1 << 16
"""Bytes of an answer's header that are taken beside its body."""
PLAIN = "text/plain"
HTML = ("text/html", "application/xhtml+xml")

Fields = Mapping[str, str]
"""Of a record's header, by their names in small letters."""


def read_warc(path: str, packing: str, limit: int, tally: Tally) -> Iterator[Record]:
    """Records of a file; `tally` counts all records of the archive.

    Damage where a record should end (a wrong checksum, a wrong length) is that record's. After damage the next record
    is looked for, and what lies between counts as one bad record.
    """
    source = Source(read_source(path, packing, BEGINS))
    searching = counted = False
    last: Record | None = None
    end = 0
    while True:
        try:
            begun = _begun(source, searching)
            if last is not None:
                yield last
            if not begun:
                return
            tally.lines += 1
            searching, counted, last = False, True, None
            last, end = _read_record(source, limit, tally.lines), source.position
        except Damage as damage:
            if last is not None and source.checked >= end:  # it is the next one that is broken
                yield last
                counted = False
            if not searching:
                tally.lines += not counted
                yield Record(tally.lines, 0, reason=str(damage))
            searching, counted, last = True, False, None


def _begun(source: Source, searching: bool) -> bool:
    """Reads the first line of a record; False at the end. Raises Damage for anything else, unless searching."""
    while line := source.line(LONGEST_LINE):
        if line.startswith(BEGINS):
            return True
        if line.strip() and not searching:
            raise Damage("damaged WARC: no record begins where one should")
    return False


def _read_record(source: Source, limit: int, number: int) -> Record | None:
    """The record whose first line is read; None where it is passed over."""
    fields = _fields(source)
    length = int(fields["content-length"])
    wanted = min(length, limit + HTTP_HEADER) if fields.get("warc-type", "").lower() in READ_TYPES else 0
    block = source.take(wanted)
    if len(block) + source.skip(length - len(block)) < length:
        raise Damage("truncated WARC: it ends inside a record")
    return _page(fields, block, length, limit, number) if wanted else None


def _fields(source: Source) -> Fields:
    fields: dict[str, str] = {}
    for _ in range(MOST_FIELDS):
        line = source.line(LONGEST_LINE)
        if not line:
            raise Damage("truncated WARC: it ends inside a record")
        if not line.strip():
            if not re.fullmatch(r"[0-9]{1,18}", fields.get("content-length", "")):
                raise Damage("damaged WARC: a record without its Content-Length")
            return fields
        name, _, value = line.decode(errors="replace").partition(":")
        fields[name.strip().lower()] = value.strip()
    raise Damage("damaged WARC: a record's header has no end")


def _page(fields: Fields, block: bytes, length: int, limit: int, number: int) -> Record | None:
    content = _content(fields, block, limit)
    if content is None or content.kind not in (PLAIN, *HTML):
        return None
    if length > limit + HTTP_HEADER or len(content.body) > limit:
        return Record(number, length, reason=too_long(limit))
    if content.kind in HTML:
        text = html_text(decode(content.body, content.charset))
        if not text:
            return None
    elif fields["warc-type"].lower() == CONVERSION:
        try:
            text = content.body.decode()
        except UnicodeDecodeError as error:
            return Record(number, length, reason=f"invalid UTF-8: byte {error.start + 1} of the record")
    else:
        text = decode(content.body, content.charset)
    text = text.replace("\r\n", "\n").strip("\r\n")
    return record_of(number, length, text, fields.get("warc-target-uri", "").strip("<>"))


def _content(fields: Fields, block: bytes, limit: int) -> Content | None:
    kind, charset = content_type(fields.get("content-type", ""))
    if fields["warc-type"].lower() == "response":
        answer = read_answer(block, limit + 1) if kind in ("application/http", "") else None
        if answer is None or answer.kind:
            return answer
        return answer._replace(kind=fields.get("warc-identified-payload-type", ""))
    return Content(kind or PLAIN, charset, block) if fields["warc-type"].lower() == CONVERSION or kind else None
