"""A web server on loopback for one folder, with or without ranges, that can be busy for a while."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(SimpleHTTPRequestHandler):
    """As `python -m http.server`, and ranges where the server has them. Counts requests in `server.asked`."""

    protocol_version = "HTTP/1.1"

    def send_head(self) -> Any:
        """Answers what both HEAD and GET begin with."""
        server: Any = self.server
        server.asked.append((self.command, self.path, self.headers.get("Range")))
        if server.busy > 0:
            server.busy -= 1
            self.send_error(503)
            return None
        asked = self.headers.get("Range") if server.ranges else None
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            return super().send_head()
        size = path.stat().st_size
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1 if last else size, size)
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(path.read_bytes()[start:stop])
        return None

    def end_headers(self) -> None:
        """With the entity tag of this server."""
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


class WebServer(ThreadingHTTPServer):
    """ranges: whether parts are served; busy: how many requests are answered 503 first."""

    daemon_threads = True

    def __init__(self, folder: Path, ranges: bool) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.ranges, self.busy = ranges, 0
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def web_server(folder: Path, ranges: bool = True) -> Iterator[WebServer]:
    """Serves the folder's files."""
    with WebServer(folder, ranges) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
