"""http and https, for reading: sizes from HEAD, bytes by ranges; nothing is listed.

Price: of a server that sends whole files only, a range is cut out of the file, which is sent from its start each time.
"""

from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from pipeline.base.stores.patient import CONNECT_SECONDS, READ_SECONDS, PlainAnswers, patient

_PIECE = 1 << 20


@patient
class WebFiles(PlainAnswers, HTTPFileSystem):
    """http:// and https://, read-only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
            "headers": {"Accept-Encoding": "identity"},
            "auto_decompress": False,  # a .gz is read as such, also where a server calls it an encoding
        }
        kwargs["client_kwargs"] = own | (kwargs.get("client_kwargs") or {})
        super().__init__(*args, **kwargs)

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        """Size (None where the server does not tell), what tells a change, and whether it serves ranges ("partial").

        By HEAD; by a request for the first byte where HEAD is refused or does not say it.
        """
        session = await self.set_session()
        async with session.head(self.encode_url(url), allow_redirects=True) as answer:
            if answer.status == 404 or answer.status == 429 or answer.status >= 502:
                self._raise_not_found_for_status(answer, url)
            length = answer.headers.get("Content-Length", "")
            if answer.status == 200 and length and "Accept-Ranges" in answer.headers:
                return _about(url, answer, int(length), answer.headers["Accept-Ranges"] != "none")
        async with session.get(self.encode_url(url), headers={"Range": "bytes=0-0"}) as answer:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if answer.status == 416 and total.isdigit():
                return _about(url, answer, int(total), True)
            self._raise_not_found_for_status(answer, url)
            size = total if answer.status == 206 else answer.headers.get("Content-Length", "")
            return _about(url, answer, int(size) if size.isdigit() else None, answer.status == 206)

    async def _cat_file(self, url: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Bytes [start, end), both counted from the file's start; fewer at its end."""
        first = start or 0
        if end is not None and end <= first:
            return b""
        session = await self.set_session()
        ranged = {"Range": f"bytes={first}-{'' if end is None else end - 1}"} if first or end is not None else {}
        async with session.get(self.encode_url(url), headers=ranged) as answer:
            if answer.status == 416:
                return b""
            self._raise_not_found_for_status(answer, url)
            if answer.status == 206 or not ranged:
                return await answer.read()
            found = bytearray()
            position = 0
            async for data in answer.content.iter_chunked(_PIECE):
                found += data[max(0, first - position) : None if end is None else max(0, end - position)]
                position += len(data)
                if end is not None and position >= end:
                    break
            return bytes(found)


def _about(url: str, answer: aiohttp.ClientResponse, size: int | None, partial: bool) -> dict[str, Any]:
    tags = {name: answer.headers[name] for name in ("ETag", "Last-Modified") if name in answer.headers}
    return {"name": url, "type": "file", "size": size, "partial": partial, **tags}
