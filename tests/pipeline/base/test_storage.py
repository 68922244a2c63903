"""Places by URL: what is known, what is refused, how faults are told, and web servers that go and come back."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from pipeline.base import storage
from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.storage import download, facts_of, is_remote, is_url, place_of, read_range, reading, upload, writing
from pipeline.base.stores import faults
from tests.ports import free_port
from tests.web_server import web_server

MEGABYTE = 1 << 20


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are waited for only a second."""
    monkeypatch.setattr(faults, "PATIENCE", 1.0)


def told(action: Callable[[], object]) -> str:
    """The message of the UserError that the action ends in."""
    with pytest.raises(UserError) as error:
        action()

    return str(error.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("corpus/a.txt", Path("corpus/a.txt")),
        ("./a:b/c", Path("a:b/c")),
        ("~/x", Path.home() / "x"),
        ("file:///tmp/a%20b.txt", Path("/tmp/a b.txt")),
        ("file://localhost/tmp/x", Path("/tmp/x")),
    ],
)
def test_local_places(text: str, place: Path) -> None:
    assert place_of(text) == place
    assert not is_remote(place_of(text))


@pytest.mark.parametrize(
    ("text", "shown", "system"),
    [
        ("s3://bucket/run/", "s3://bucket/run", "S3Store"),
        ("S3://bucket/a", "s3://bucket/a", "S3Store"),
        ("gs://bucket/a/b", "gs://bucket/a/b", "GoogleStore"),
        ("hf://datasets/owner/name@v1/a.jsonl", "hf://datasets/owner/name@v1/a.jsonl", "HubStore"),
        ("https://host:8080/a.txt?keyword=1", "https://host:8080/a.txt?keyword=1", "WebFiles"),
    ],
)
def test_places_in_stores(text: str, shown: str, system: str) -> None:
    place = place_of(text)
    assert isinstance(place, UPath)
    assert is_remote(place)
    assert is_url(text)
    assert str(place) == shown
    assert str(place / "sub" / "x.bin") == f"{shown.rstrip('/')}/sub/x.bin"
    assert storage.fsspec.get_filesystem_class(place.protocol).__name__ == system


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://host/x", "the scheme ftp:// is not known. Give a path, or a URL with file://, s3://, gs://"),
        ("s3:/bucket/x", "Write s3://"),
        ("s3://", "names no bucket"),
        ("http:///x", "names no host"),
        ("file://host/x", "names the host host"),
        ("s3://key:hidden-one@bucket/x", "s3://***@bucket/x holds a user, a password or a signature"),
        ("https://me:hidden-one@host/x", "https://***@host/x holds"),
        ("https://host/x?X-Amz-Signature=hidden-one&a=1", "https://host/x?*** holds"),
        ("https://host/x?a=1&access_token=hidden-one", "https://host/x?*** holds"),
        ("https://host/x?sv=2020&sig=hidden-one", "https://host/x?*** holds"),
    ],
)
def test_refused_places(text: str, message: str) -> None:
    found = told(lambda: place_of(text))
    assert message in found
    assert "hidden" not in found


@pytest.mark.parametrize(
    "setting",
    [
        "store=s3://key:hidden-one@bucket/run",
        "data.path=s3://key:hidden-one@bucket/run",
        "corpus.paths=[corpus, 's3://key:hidden-one@bucket/*.txt']",
        "corpus.corpora={a: {paths: ['https://host/a.txt?X-Amz-Signature=hidden-one']}}",
    ],
)
def test_no_config_holds_a_secret(setting: str) -> None:
    message = told(lambda: load_config(None, ["run_dir=x", setting]))
    assert message.startswith(f"command line: {setting.partition('=')[0]}")
    assert "holds a user, a password or a signature" in message
    assert "hidden" not in message


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0123456789abcdef")
    text = "at 'http://u:p@h/x?Signature=1' with 0123456789abcdef, s3://b/part-?.txt and http://h/y?page=2"
    assert faults.shown(text) == "at 'http://***@h/x?***' with ***, s3://b/part-?.txt and http://h/y?page=2"


def test_local_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_range(tmp_path / "a", 2, 5) == b"234"
    assert read_range(tmp_path / "a", 8, 50) == b"89"
    assert read_range(tmp_path / "a", 5, 5) == b""
    upload(tmp_path / "a", tmp_path / "sub" / "b")
    assert (tmp_path / "sub" / "b").read_bytes() == b"0123456789"
    assert facts_of(tmp_path / "a").size == 10
    assert "No such file" in told(lambda: read_range(tmp_path / "none", 0, 1))
    assert "cannot write" in told(lambda: upload(tmp_path / "a", tmp_path / "a" / "b"))


def test_denied() -> None:
    """moto has no rights to deny: an answer as S3 gives it."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    answer = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}

    def denied() -> None:
        with reading(place_of("s3://bucket/x")):
            raise translate_boto_error(ClientError(answer, "GetObject"))

    assert told(denied).startswith("cannot read s3://bucket/x: access denied (no). Mend the credentials")


@pytest.mark.parametrize(
    ("status", "code", "passes"),
    [
        (503, "SlowDown", True),
        (500, "InternalError", True),
        (429, "TooMany", True),
        (400, "RequestTimeout", True),
        (400, "InvalidArgument", False),
        (403, "AccessDenied", False),
        (404, "NoSuchKey", False),
        (501, "NotImplemented", False),
    ],
)
def test_what_passes(status: int, code: str, passes: bool) -> None:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    answer = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = ClientError(answer, "GetObject")
    assert faults.is_transient(error) == passes
    assert faults.is_transient(translate_boto_error(error)) == passes


def test_errors_of_the_program_are_not_told() -> None:
    for around in (reading, writing):
        with pytest.raises(ZeroDivisionError), around(place_of("s3://bucket/x")):
            raise ZeroDivisionError


def test_web_files(tmp_path: Path) -> None:
    content = os.urandom(3 * MEGABYTE)
    (tmp_path / "a.bin").write_bytes(content)
    (tmp_path / "empty").touch()
    for ranges in (True, False):
        with web_server(tmp_path, ranges) as server:
            place = place_of(f"{server.url}/a.bin")
            facts = facts_of(place)
            assert facts.size == len(content)
            assert facts.stamp == str((tmp_path / "a.bin").stat().st_mtime_ns)
            assert read_range(place, MEGABYTE, 2 * MEGABYTE) == content[MEGABYTE : 2 * MEGABYTE]
            assert read_range(place, len(content) - 2, len(content) + 5) == content[-2:]
            assert read_range(place, len(content), len(content) + 5) == b""
            assert facts_of(place_of(f"{server.url}/empty")).size == 0
            download(place, tmp_path / "copy")
            assert (tmp_path / "copy").read_bytes() == content
            assert "nothing of that name" in told(lambda: facts_of(place_of(f"{server.url}/none")))
            assert not place_of(f"{server.url}/none").exists()
            assert place.exists()
            server.busy = 2
            assert read_range(place, 0, 5) == content[:5]
            with pytest.raises(UserError, match=r"http:// is only read. Name a path, s3:// or gs://"):
                upload(tmp_path / "copy", place)


@pytest.mark.usefixtures("impatient")
def test_web_server_away(tmp_path: Path) -> None:
    place = place_of(f"http://127.0.0.1:{free_port()}/a.txt")
    assert "was away or busy for 1 seconds" in told(lambda: facts_of(place))

    def asked() -> bool:
        with reading(place):
            return place.exists()

    assert "was away or busy" in told(asked)


def test_a_web_server_without_ranges_sends_small_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "WHOLE", 10)
    (tmp_path / "a.txt").write_bytes(b"x" * 11)
    with web_server(tmp_path, ranges=False) as server:
        assert "sends whole files only" in told(lambda: facts_of(place_of(f"{server.url}/a.txt")))
