"""What a web server answered, as archives keep it: the header's fields, and the body without its transfer's encodings.

RFC 9112 (chunks), RFC 9110 section 8.4 (encodings). A body that is not encoded as its header says is taken as it is,
which is how archives leave it that decode what they fetch. What a hostile body expands to is bounded.
"""

import io
import re
import zlib
from typing import NamedTuple

import brotli  # type: ignore[import-untyped]
from warcio.bufferedreaders import ChunkedDataReader  # type: ignore[import-untyped]
from warcio.statusandheaders import StatusAndHeadersParser  # type: ignore[import-untyped]

_ANY = StatusAndHeadersParser([], verify=False)
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)


class Content(NamedTuple):
    """A body. kind: its media type in small letters, "" where it is not said; charset: as it is said."""

    kind: str
    charset: str | None
    body: bytes


def content_type(value: str) -> tuple[str, str | None]:
    """Media type and charset of a Content-Type."""
    charset = _CHARSET.search(value)
    return value.partition(";")[0].strip().lower(), charset[1] if charset else None


def read_answer(answer: bytes, most: int) -> Content | None:
    """The content of an answer, at most about `most` bytes of it; None where it is no success (2xx)."""
    stream = io.BytesIO(answer)
    try:
        header = _ANY.parse(stream)
    except EOFError:
        return None
    if not header.statusline.startswith("2"):
        return None
    chunked = (header.get_header("transfer-encoding") or "").strip().lower() == "chunked"
    body = ChunkedDataReader(stream).read() if chunked else stream.read()
    encoding = (header.get_header("content-encoding") or "").strip().lower()
    kind, charset = content_type(header.get_header("content-type") or "")
    return Content(kind, charset, _decoded(body, encoding, most))


def _decoded(body: bytes, encoding: str, most: int) -> bytes:
    try:
        if encoding in ("gzip", "x-gzip"):
            return zlib.decompressobj(wbits=31).decompress(body, most)
        if encoding == "deflate":
            try:
                return zlib.decompressobj().decompress(body, most)
            except zlib.error:  # many servers leave out the zlib header
                return zlib.decompressobj(wbits=-15).decompress(body, most)
        if encoding == "br":
            return _unbrotli(body, most)
    except (zlib.error, brotli.error):
        pass
    return body


def _unbrotli(body: bytes, most: int) -> bytes:
    decompressor = brotli.Decompressor()
    parts = [decompressor.process(body, output_buffer_limit=most)]
    size = len(parts[0])
    while size < most and parts[-1] and not decompressor.is_finished():
        parts.append(decompressor.process(b"", output_buffer_limit=most - size))
        size += len(parts[-1])
    return b"".join(parts)
