"""Files in Google Cloud Storage, against an emulator where one is installed: there and back, listed, away and gone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.base import lease, storage
from pipeline.base.errors import UserError
from pipeline.base.storage import download, facts_of, place_of, read_range, system_of, upload
from pipeline.base.stores import faults
from pipeline.corpus.files import find_files
from tests.ports import HOST, free_port
from tests.s3_server import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    """An emulator with an empty bucket named ours."""
    if find_spec("gcp_storage_emulator") is None:
        pytest.skip("no Google Cloud Storage emulator: pip install gcp-storage-emulator")
    from pipeline.base.stores.gs import GoogleStore

    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", f"--host={HOST}", f"--port={port}", "--in-memory"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{HOST}:{port}")
    GoogleStore.clear_instance_cache()
    try:
        wait_for(port, process)
        system_of(place_of("gs://ours")).mkdir("ours")
        yield process
    finally:
        process.kill()
        process.wait()
        GoogleStore.clear_instance_cache()


def test_there_and_back(emulator: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(storage.PART * 2 + 12345)
    (tmp_path / "a").write_bytes(content)
    place = place_of("gs://ours/deep/a.bin")
    assert not place.exists()
    upload(tmp_path / "a", place)
    assert place.exists()
    assert facts_of(place).size == len(content)
    assert read_range(place, 5, 10) == content[5:10]
    assert read_range(place, len(content) - 3, len(content) + 99) == content[-3:]
    assert read_range(place, len(content), len(content) + 1) == b""
    download(place, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == content
    for name in ("deep/t.txt", "deep/.hidden/u.txt", "v.txt"):
        place_of(f"gs://ours/{name}").write_bytes(b"text")
    assert [file.name for file in find_files(["gs://ours"])] == ["deep/t.txt", "v.txt"]
    assert [file.name for file in find_files(["gs://ours/d*/*.txt", "gs://ours/**/v*"])] == ["deep/t.txt", "v.txt"]
    seen = find_files(["gs://ours/v.txt"])[0].changed
    place_of("gs://ours/v.txt").write_bytes(b"next")
    assert seen != find_files(["gs://ours/v.txt"])[0].changed
    _lease(monkeypatch)
    place.unlink()
    with pytest.raises(UserError, match="there is nothing of that name"):
        read_range(place, 0, 1)
    monkeypatch.setattr(faults, "PATIENCE", 1.0)
    emulator.kill()
    with pytest.raises(UserError, match=r"cannot read gs://ours/v\.txt: the store was away or busy for 1 seconds"):
        read_range(place_of("gs://ours/v.txt"), 0, 1)
    with pytest.raises(UserError, match="was away or busy"):
        upload(tmp_path / "a", place)


def _lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.1)  # the emulator takes every put
    store = place_of("gs://ours/runs/x")
    with lease.hold_store(store, lambda: None):
        lease.check_lease(store)
        with pytest.raises(UserError, match="is written by process"):
            lease.hold_store(store, lambda: None).__enter__()
    assert not (store / lease.NAME).exists()
