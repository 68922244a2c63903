"""Local copies: one download a host, by digest, within the limit, whatever is killed. A local folder is the store."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.base.sections import DataConfig
from pipeline.stream import cache as module
from pipeline.stream.cache import Cache, Remote, RemoteFile, open_cache

SIZE = 1000
processes = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store" / "train").mkdir(parents=True)
    return tmp_path / "store"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """How many there were, in all processes."""
    log = tmp_path / "downloads"
    log.touch()
    plain = module.download

    def counted(place: Path, local: Path) -> None:
        with open(log, "a") as file:
            file.write(f"{place}\n")
        plain(place, local)

    monkeypatch.setattr(module, "download", counted)
    return lambda: len(log.read_text().splitlines())


def put(store: Path, number: int) -> Remote:
    """A shard in the store."""
    name = f"train/{number:06d}.tar"
    content = bytes([number]) * SIZE
    (store / name).write_bytes(content)
    return Remote(store, (RemoteFile(name, SIZE, hashlib.sha256(content).hexdigest()),))


def read(cache: Cache, remote: Remote) -> bytes:
    with cache.open(remote, remote.files[0].name) as file:
        return file.read()


def held_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.tar"))


def in_process(function: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    process = processes.Process(target=function, args=arguments)
    process.start()
    return process


def test_a_copy_is_the_file_and_is_fetched_once(store: Path, folder: Path, downloads: Callable[[], int]) -> None:
    remote = put(store, 1)
    cache = Cache(folder, 10 * SIZE)
    assert read(cache, remote) == (store / "train" / "000001.tar").read_bytes()
    assert cache.hold(remote) == cache.hold(remote) == folder / remote.key
    cache.release(remote)
    cache.release(remote)
    assert read(cache, remote) == read(Cache(folder, 10 * SIZE), remote)
    assert downloads() == 1
    for path in (folder, folder / remote.key, folder / remote.key / "train"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.name == "train"
    assert stat.S_IMODE((folder / remote.key / "train" / "000001.tar").stat().st_mode) == 0o600


def test_several_files_are_one_copy(store: Path, folder: Path) -> None:
    remotes = [put(store, number) for number in (1, 2)]
    both = Remote(store, tuple(file for remote in remotes for file in remote.files))
    path = Cache(folder, 10 * SIZE).hold(both)
    assert path is not None
    assert [path.joinpath(file.name).read_bytes()[0] for file in both.files] == [1, 2]
    assert len({both.key, *(remote.key for remote in remotes)}) == 3


def test_processes_share_one_download(store: Path, folder: Path, downloads: Callable[[], int], tmp_path: Path) -> None:
    remotes = [put(store, number) for number in range(5)]

    def use(results: Path) -> None:
        cache = Cache(folder, 10 * SIZE)
        for number, remote in enumerate(remotes):
            assert read(cache, remote) == bytes([number]) * SIZE
            assert cache.hold(remote) is not None
        results.touch()

    ranks = [in_process(use, tmp_path / f"done-{rank}") for rank in range(4)]
    for rank in ranks:
        rank.join()
    assert len(list(tmp_path.glob("done-*"))) == 4
    assert downloads() == 5


def half_fetch(folder: Path, remote: Remote, started: Path) -> None:
    """Writes half of the file, then waits to be killed."""

    def stuck(place: Path, local: Path) -> None:
        local.write_bytes(b"x" * (SIZE // 2))
        started.touch()
        time.sleep(600)

    module.download = stuck
    Cache(folder, 10 * SIZE).hold(remote)


def test_what_a_killed_process_left_is_harmless(
    store: Path, folder: Path, downloads: Callable[[], int], tmp_path: Path
) -> None:
    remotes = [put(store, number) for number in (1, 2)]
    killed = []
    for number, remote in enumerate(remotes):
        killed.append(in_process(half_fetch, folder, remote, tmp_path / f"started-{number}"))
        while not (tmp_path / f"started-{number}").exists():
            time.sleep(0.01)
    cache = Cache(folder, 10 * SIZE)
    assert cache.hold(remotes[0], wait=False) is None  # the other process fetches it
    for process in killed:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert read(cache, remotes[0]) == b"\1" * SIZE
    assert sorted(path.name for path in folder.iterdir()) == [".lock", remotes[0].key]  # the other's leftovers too
    assert read(cache, remotes[1]) == b"\2" * SIZE
    assert downloads() == 2


def test_a_wrong_digest_is_downloaded_again_twice(
    store: Path, folder: Path, downloads: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, whole = put(store, 1), module.download
    wrong = [b"x" * SIZE, b"\1" * (SIZE - 1)]

    def flaky(place: Path, local: Path) -> None:
        whole(place, local)
        if wrong:
            local.write_bytes(wrong.pop())

    monkeypatch.setattr(module, "download", flaky)
    assert read(Cache(folder, 10 * SIZE), remote) == b"\1" * SIZE
    assert downloads() == 3
    (store / "train" / "000001.tar").write_bytes(b"y" * SIZE)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"store/train/000001\.tar is broken: 3 downloads") as error:
        Cache(folder, 10 * SIZE).hold(remote)
    assert remote.files[0].sha256 in str(error.value)
    assert hashlib.sha256(b"y" * SIZE).hexdigest() in str(error.value)
    assert downloads() == 6
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_damaged_copy_is_fetched_again(store: Path, folder: Path, downloads: Callable[[], int]) -> None:
    remote = put(store, 1)
    local = folder / remote.key / remote.files[0].name
    for damage in (b"", b"x" * SIZE, b"\1" * (SIZE + 1), None):
        read(Cache(folder, 10 * SIZE), remote)
        local.write_bytes(damage) if damage is not None else local.unlink()
        assert read(Cache(folder, 10 * SIZE), remote) == b"\1" * SIZE
    assert downloads() == 5
    cache = Cache(folder, 10 * SIZE)
    cache.hold(remote)
    shutil.rmtree(folder)  # by hand, while it is in use
    assert read(cache, remote) == b"\1" * SIZE
    assert cache.hold(remote) is not None


def test_the_longest_unused_go_first_within_the_limit(store: Path, folder: Path, downloads: Callable[[], int]) -> None:
    remotes = [put(store, number) for number in range(6)]
    cache = Cache(folder, 3 * SIZE + SIZE // 2)
    for remote in (*remotes[:3], remotes[0], remotes[3], remotes[4]):
        read(cache, remote)
        assert held_bytes(folder) <= cache.limit
    kept = {path.name for path in folder.iterdir()}
    assert kept == {".lock", *(remotes[number].key for number in (0, 3, 4))}
    (folder / "notes.txt").write_text("somebody's own")
    for remote in remotes:
        read(cache, remote)
    assert (folder / "notes.txt").exists()


def test_what_is_held_stays_and_an_open_file_goes_on(
    store: Path, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_logger(), "propagate", True)
    remotes = [put(store, number) for number in range(5)]
    cache, other = Cache(folder, 2 * SIZE), Cache(folder, 2 * SIZE)
    assert cache.hold(remotes[0]) is not None
    with other.open(remotes[1], remotes[1].files[0].name) as file:
        read(other, remotes[2])
        assert not (folder / remotes[1].key).exists()
        assert file.read() == b"\1" * SIZE
    assert (folder / remotes[0].key).exists()
    assert other.hold(remotes[2]) is not None
    assert other.hold(remotes[3], wait=False) is None  # no room, nothing to let go
    assert "data.cache_bytes" not in caplog.text
    assert other.hold(remotes[3]) is not None
    assert "data.cache_bytes 2,000" in caplog.text
    cache.release(remotes[0])
    read(other, remotes[4])
    assert not (folder / remotes[0].key).exists()


def hold_until_killed(folder: Path, remote: Remote, started: Path) -> None:
    Cache(folder, 2 * SIZE).hold(remote)
    started.touch()
    time.sleep(600)


def test_what_another_process_holds_stays_until_its_death(store: Path, folder: Path, tmp_path: Path) -> None:
    remotes = [put(store, number) for number in range(5)]
    process = in_process(hold_until_killed, folder, remotes[0], tmp_path / "started")
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    cache = Cache(folder, 2 * SIZE)
    for remote in remotes[1:]:
        read(cache, remote)
    assert (folder / remotes[0].key).exists()
    process.kill()
    process.join()
    for remote in remotes[1:]:
        read(cache, remote)
    assert not (folder / remotes[0].key).exists()


def test_refusals_are_one_message(store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = put(store, 1)
    folder.write_text("a file")
    with pytest.raises(UserError, match=r"cannot write the local copies in .*data\.cache"):
        Cache(folder, 10 * SIZE).hold(remote)
    folder.unlink()

    def full(place: Path, local: Path) -> None:
        raise UserError("cannot write it") from OSError(28, "No space left on device")

    monkeypatch.setattr(module, "download", full)
    with pytest.raises(UserError, match=r"no space left on the device.*lower data\.cache_bytes"):
        Cache(folder, 10 * SIZE).hold(remote)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_missing_file_is_the_stores_message(store: Path, folder: Path) -> None:
    remote = put(store, 1)
    (store / remote.files[0].name).unlink()
    with pytest.raises(UserError, match=r"cannot read .*000001\.tar"):
        read(Cache(folder, 10 * SIZE), remote)


def test_where_the_copies_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert open_cache(DataConfig()).folder == tmp_path / "xdg" / "electra"
    assert open_cache(DataConfig()) is open_cache(DataConfig())
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_cache(DataConfig()).folder == tmp_path / ".cache" / "electra"
    given = open_cache(DataConfig(cache=str(tmp_path / "own"), cache_bytes=5))
    assert (given.folder, given.limit) == (tmp_path / "own", 5)
