"""Files of the Hugging Face Hub: the library is asked rightly, by a stand-in that answers as the Hub's documents say.

The stand-in is ours: it shows that paths, lists, ranges and tokens arrive, not that the Hub itself is understood.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import UserError
from pipeline.base.storage import download, facts_of, place_of, read_range, upload, writing
from pipeline.base.stores import faults
from pipeline.corpus.files import find_files

FILES = {"a.txt": b"0123456789" * 1000, "sub/b.jsonl": b'{"text": "b"}\n', "sub/notes.md": b"n"}


class Hub(BaseHTTPRequestHandler):
    """Data set owner/name with one revision, main."""

    asked: list[tuple[str, str | None, str | None]] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
        if path in ("/api/datasets/owner/name", "/api/datasets/owner/name/revision/main"):
            return self.answer({"id": "owner/name", "sha": "1" * 40})
        if path.startswith("/api/datasets/owner/name/tree/main"):
            folder = path.removeprefix("/api/datasets/owner/name/tree/main").strip("/")
            return self.answer(self.tree(folder, "recursive=true" in self.path.lower()))
        name = path.removeprefix("/datasets/owner/name/resolve/main/")
        if name not in FILES:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if "/api/" in path else "EntryNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        data = FILES[name][int(first) : int(last) + 1 if last else None]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"tag"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def tree(self, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """What lies in a folder, as /api/datasets/{name}/tree/{revision} lists it."""
        found: dict[str, dict[str, Any]] = {}
        for name, data in FILES.items():
            if folder and not name.startswith(folder + "/"):
                continue
            inside = name[len(folder) + 1 if folder else 0 :]
            if "/" in inside:
                parent = f"{folder}/{inside.partition('/')[0]}".strip("/")
                found[parent] = {"type": "directory", "path": parent, "oid": "2" * 40, "size": 0}
            if recursive or "/" not in inside:
                found[name] = {"type": "file", "path": name, "oid": f"{len(data):040d}", "size": len(data)}
        return list(found.values())

    def answer(self, value: Any) -> None:
        """Sends JSON."""
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """The stand-in, in place of huggingface.co."""
    from huggingface_hub import constants

    from pipeline.base.stores.hub import HubStore

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        endpoint, template = f"http://127.0.0.1:{server.server_port}", constants.HUGGINGFACE_CO_URL_TEMPLATE
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template.replace(constants.ENDPOINT, endpoint))
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_a-token-of-the-test")
        HubStore.clear_instance_cache()
        Hub.asked.clear()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            HubStore.clear_instance_cache()


@pytest.mark.usefixtures("hub")
def test_files_of_a_data_set(tmp_path: Path) -> None:
    folder = place_of("hf://datasets/owner/name")
    names = [file.name for file in find_files([str(folder)])]
    assert names == ["a.txt", "sub/b.jsonl"]
    globs = [f"{folder}/s*/*.jsonl", f"{folder}/**/*.txt"]
    assert [file.name for file in find_files(globs)] == ["sub/b.jsonl", "a.txt"]
    [file] = find_files([f"{folder}/a.txt"])
    assert (file.size, file.changed) == (10_000, f"{10_000:040d}")
    assert facts_of(folder / "a.txt").size == 10_000
    assert read_range(folder / "a.txt", 3, 8) == b"34567"
    assert ("/datasets/owner/name/resolve/main/a.txt", "bytes=3-7", "Bearer hf_a-token-of-the-test") in Hub.asked
    assert read_range(folder / "a.txt", 9_998, 10_050) == b"89"
    assert read_range(folder / "a.txt", 10_000, 10_050) == b""
    download(folder / "a.txt", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == FILES["a.txt"]
    assert not (folder / "none.txt").exists()
    with pytest.raises(UserError, match="there is nothing of that name"):
        facts_of(folder / "none.txt")
    with pytest.raises(UserError, match="does not exist"):
        find_files([f"{folder}/none.txt"])


def test_a_hub_that_is_away(hub: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "PATIENCE", 1.0)
    hub.server_close()
    with pytest.raises(UserError, match="was away or busy for 1 seconds") as error:
        facts_of(place_of("hf://datasets/owner/name/a.txt"))
    assert "hf_a-token" not in str(error.value)


def test_the_hub_is_only_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    place = place_of("hf://datasets/owner/name/a.txt")
    with pytest.raises(UserError, match=r"cannot write hf://datasets/owner/name/a\.txt: hf:// is only read"):
        upload(tmp_path / "a", place)
    with pytest.raises(UserError, match="hf:// is only read"), writing(place):
        pass


def test_offline_is_told_at_once() -> None:
    """Tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(UserError, match=r"cannot read hf://datasets/owner/other/a\.txt: .*offline"):
        facts_of(place_of("hf://datasets/owner/other/a.txt"))
