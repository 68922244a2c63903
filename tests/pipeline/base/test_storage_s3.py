"""Files in S3, against a server: there and back, nothing remembered, other processes, and a server that is killed."""

import logging
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.base import storage
from pipeline.base.errors import UserError
from pipeline.base.storage import download, facts_of, place_of, read_range, reading, upload, writing
from pipeline.base.stores import faults
from tests.s3_server import KEY, SECRET, S3Server

pytestmark = pytest.mark.slow
MEGABYTE = 1 << 20


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are waited for only a second."""
    monkeypatch.setattr(faults, "PATIENCE", 1.0)


def told(action: Callable[[], object]) -> str:
    """The message of the UserError that the action ends in."""
    with pytest.raises(UserError) as error:
        action()
    assert SECRET not in str(error.value)
    return str(error.value)


def test_there_and_back(s3: S3Server, tmp_path: Path) -> None:
    content = os.urandom(storage.PART * 2 + 12345)
    (tmp_path / "a").write_bytes(content)
    place = place_of(f"{s3.url}/deep/a?b#c d%20é.bin")
    assert not place.exists()
    upload(tmp_path / "a", place)
    assert facts_of(place).size == len(content)
    assert read_range(place, storage.PART - 5, storage.PART + 5) == content[storage.PART - 5 : storage.PART + 5]
    assert read_range(place, len(content) - 3, len(content) + 99) == content[-3:]
    assert read_range(place, len(content), len(content) + 1) == b""
    download(place, tmp_path / "b" / "c")
    assert (tmp_path / "b" / "c").read_bytes() == content
    (tmp_path / "empty").touch()
    upload(tmp_path / "empty", place)
    download(place, tmp_path / "b" / "c")
    assert (tmp_path / "b" / "c").read_bytes() == b""
    assert [entry.name for entry in (tmp_path / "b").iterdir()] == ["c"]


def test_no_listing_is_remembered(s3: S3Server) -> None:
    folder, seen_before = place_of(f"{s3.url}/folder"), place_of(f"{s3.url}/folder")
    assert not seen_before.exists()
    (folder / "a").write_bytes(b"a")
    assert [entry.name for entry in seen_before.iterdir()] == ["a"]
    place_of(f"{s3.url}/folder/b").write_bytes(b"b")
    assert sorted(entry.name for entry in seen_before.iterdir()) == ["a", "b"]
    assert seen_before.is_dir()
    assert not seen_before.is_file()
    (folder / "a").unlink()
    assert not (seen_before / "a").exists()
    assert place_of(s3.url).exists()
    assert not place_of("s3://no-such-bucket-of-ours").exists()


def test_another_process_and_threads(s3: S3Server) -> None:
    place = place_of(f"{s3.url}/a")
    place.write_bytes(b"content")
    assert pickle.loads(pickle.dumps(place)).read_bytes() == b"content"
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(read_range(place, 0, 7))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"content"] * 8
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    else:
        os._exit(0 if place.read_bytes() == b"content" else 1)


def test_what_lasts_is_told_at_once(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"a")
    nothing, nowhere = place_of(f"{s3.url}/none"), place_of("s3://no-such-bucket-of-ours/x")
    assert told(lambda: read_range(nothing, 0, 1)).startswith(f"cannot read {nothing}: there is nothing of that name")
    assert "there is nothing of that name" in told(lambda: download(nothing, tmp_path / "b"))
    assert not (tmp_path / "b").exists()
    assert "the bucket does not exist" in told(lambda: upload(tmp_path / "a", nowhere))
    assert "is a folder" in told(lambda: facts_of(place_of(s3.url)))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    type(storage.system_of(nothing)).clear_instance_cache()
    assert "no credentials" in told(lambda: read_range(nothing, 0, 1))


@pytest.mark.usefixtures("impatient")
def test_away_for_good(
    s3: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    place = place_of(f"{s3.url}/a")
    place.write_bytes(b"a")
    (tmp_path / "a").write_bytes(b"a")
    s3.kill()

    def write() -> None:
        with writing(place):
            place.write_bytes(b"b")

    def list_all() -> None:
        with reading(place.parent):
            list(place.parent.iterdir())

    for action in (
        lambda: read_range(place, 0, 1),
        lambda: download(place, tmp_path / "b"),
        lambda: upload(tmp_path / "a", place),
        write,
        list_all,
    ):
        caplog.clear()
        message = told(action)
        assert "was away or busy for 1 seconds" in message
        assert message.endswith("start the same command again.")
        lines = [line.message for line in caplog.records if line.name == "pipeline"]
        assert 1 <= len(lines) <= 2  # two where a busy machine is past its patience before another call begins
        assert all(" does not answer (Could not connect" in line for line in lines)
        assert KEY not in caplog.text
    assert not (tmp_path / "b").exists()


def test_gone_in_the_middle_and_back(s3: S3Server, tmp_path: Path) -> None:
    content = os.urandom(3 * storage.PART)
    (tmp_path / "a").write_bytes(content)
    place = place_of(f"{s3.url}/a")
    for dies_after in (5 * MEGABYTE, 40 * MEGABYTE):
        for action in (lambda: upload(tmp_path / "a", place), lambda: download(place, tmp_path / "b")):
            s3.restart(dies_after)
            back = threading.Thread(target=lambda: (s3.ended(), s3.start_later(1).join()))
            back.start()
            action()
            back.join()
        assert (tmp_path / "b").read_bytes() == content
        place.unlink()
