"""The lease of a store, against a store in memory: one holder, whoever is gone is recognised, whoever lost it stops."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from pipeline.base import lease as module
from pipeline.base.errors import Preempted, UserError
from pipeline.base.lease import check_lease, hold_store
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import place_of, system_of
from pipeline.stages import preprocess
from tests.s3_server import S3Server

ELSEWHERE = {"host": "node-7", "process": 4711, "since": "2026-01-01 00:00:00 UTC", "kernel": "k", "birth": 1}


@pytest.fixture
def store() -> Iterator[UPath]:
    place = UPath(f"memory://{uuid4().hex}/runs/x")
    yield place
    MemoryFileSystem.store.clear()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.05)


def put(store: UPath, **values: Any) -> None:
    """Another process's lease."""
    (store / "lease.json").write_text(json.dumps(ELSEWHERE | values))


def clock(monkeypatch: pytest.MonkeyPatch, store: UPath, seconds: float) -> None:
    """The store's clock is so much later than the time at which the lease was last written."""

    def modified(self: Any, path: str) -> datetime:
        return datetime.fromtimestamp(1_000_000 + (0 if path.endswith("lease.json") else seconds))

    monkeypatch.setattr(type(system_of(store)), "modified", modified)


def nothing() -> None:
    raise AssertionError("the lease was not lost")


def wait_until(met: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not met():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_folder_needs_none() -> None:
    with hold_store(None, nothing) as lease:
        assert lease is None
    check_lease(None)


def test_it_is_there_while_it_is_held_and_names_the_holder(store: UPath) -> None:
    with hold_store(store, nothing):
        found = json.loads((store / "lease.json").read_text())
        assert found.keys() == {*ELSEWHERE, "token"}
        check_lease(store)
        with pytest.raises(UserError) as refused, hold_store(store, nothing):
            pass
    assert str(refused.value).startswith(
        f"the store {store} is written by process {found['process']} on {found['host']} since {found['since']}. "
        "Wait for it, stop it, or set another store."
    )
    assert not MemoryFileSystem.store


def test_a_fresh_one_of_another_machine_is_refused_an_old_one_taken_over(
    store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    clock(monkeypatch, store, module.STALE_SECONDS - 1)
    with pytest.raises(UserError, match=r"process 4711 on node-7 since 2026-01-01 00:00:00 UTC.* start again in 1 s"):
        hold_store(store, nothing).__enter__()
    clock(monkeypatch, store, module.STALE_SECONDS + 1)
    with hold_store(store, nothing):
        assert "node-7" not in (store / "lease.json").read_text()


def test_a_dead_process_of_this_machine_is_recognised_at_once(store: UPath) -> None:
    own = module._own()
    put(store, **own)
    with pytest.raises(UserError, match="is written by process"):
        hold_store(store, nothing).__enter__()
    put(store, **own | {"birth": own["birth"] - 1})  # its number was given again
    with hold_store(store, nothing):
        pass
    put(store, **own | {"birth": own["birth"] - 1, "kernel": "another start of this machine"})
    with pytest.raises(UserError, match="is written by process"):
        hold_store(store, nothing).__enter__()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"process": "x", "birth": null}'])
def test_a_broken_one_counts_as_somebodys(store: UPath, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "lease.json").write_bytes(content)
    with pytest.raises(UserError, match=r"is written by process .* on \? since \?"):
        hold_store(store, nothing).__enter__()
    clock(monkeypatch, store, module.STALE_SECONDS + 1)
    with hold_store(store, nothing):
        pass


def test_of_many_that_start_at_once_one_gets_it(store: UPath) -> None:
    held, refused, end = [], [], threading.Event()

    def start() -> None:
        lease = module.Lease(store, nothing)
        try:
            lease.take()
        except UserError:
            refused.append(lease)
            return
        held.append(lease)
        end.wait(30)
        lease.release()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(held) + len(refused) == 8)
    end.set()
    for thread in threads:
        thread.join()
    assert len(held) == 1


def test_a_store_that_overwrites_all_the_same_is_waited_for_and_read_back(
    store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = MemoryFileSystem.pipe_file
    others: list[float] = []

    def overwrites(self: Any, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        plain(self, path, value)

    def settle(seconds: float) -> None:
        if seconds == module.SETTLE_SECONDS and not others:
            others.append(seconds)
            put(store)  # another's that had seen none either, and put its own last

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", overwrites)
    monkeypatch.setattr(time, "sleep", settle)
    with pytest.raises(UserError, match="node-7"):
        hold_store(store, nothing).__enter__()
    assert others == [module.SETTLE_SECONDS]


def test_an_answer_that_was_lost_is_no_refusal(store: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MemoryFileSystem.pipe_file

    def twice(self: Any, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        plain(self, path, value, mode)
        if mode == "create":
            plain(self, path, value, mode)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", twice)
    with hold_store(store, nothing):
        check_lease(store)


def test_who_waits_gets_it_when_it_is_free(store: UPath, capsys: pytest.CaptureFixture[str]) -> None:
    put(store)
    freed = threading.Timer(0.1, (store / "lease.json").unlink)
    freed.start()
    with hold_store(store, nothing, patience=30):
        freed.join()
    assert "process 4711 on node-7 since 2026-01-01 00:00:00 UTC: waiting up to 30 s" in capsys.readouterr().err


def test_it_is_renewed(store: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    system = system_of(store)
    with hold_store(store, nothing):
        before = system.modified((store / "lease.json").path)
        wait_until(lambda: system.modified((store / "lease.json").path) > before)


def test_a_store_that_is_away_for_a_while_costs_nothing(store: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    with hold_store(store, nothing):
        with monkeypatch.context() as patched:
            tried = []

            def away(*arguments: Any, **more: Any) -> bytes:
                tried.append(arguments)
                raise ConnectionResetError("away")

            patched.setattr(MemoryFileSystem, "cat_file", away)
            wait_until(lambda: len(tried) > 2)
        check_lease(store)


@pytest.mark.parametrize("ends", [Preempted, UserError, KeyboardInterrupt])
def test_whoever_lost_it_is_stopped_writes_no_more_and_leaves_the_new_one(
    store: UPath, monkeypatch: pytest.MonkeyPatch, ends: type[BaseException]
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    stopped = threading.Event()
    words = r"no longer holds the store .*process 4711 on node-7"
    with pytest.raises(UserError, match=words) as told, hold_store(store, stopped.set):
        put(store)
        assert stopped.wait(30)
        with pytest.raises(UserError, match=words):
            check_lease(store)
        raise ends("stopped")
    assert "start the same command again" in str(told.value)
    assert json.loads((store / "lease.json").read_text()) == ELSEWHERE


def test_one_that_was_taken_and_given_back_is_lost_too(store: UPath) -> None:
    with pytest.raises(UserError, match="another run has been there meanwhile"), hold_store(store, nothing):
        (store / "lease.json").unlink()
        check_lease(store)


def test_a_preprocessing_that_waits_is_interrupted(
    store: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    with (
        pytest.raises(UserError, match="no longer holds"),
        preprocess._locked(RunFolder(tmp_path, cast(Path, store)), ""),
    ):
        put(store)
        time.sleep(30)
        raise AssertionError("it waited on")


def test_a_look_before_a_write_in_another_thread_stops_the_run_too(store: UPath) -> None:
    stopped, refused = threading.Event(), []

    def write() -> None:
        try:
            check_lease(store)
        except UserError as error:
            refused.append(str(error))

    with hold_store(store, stopped.set):
        put(store)
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert stopped.wait(30)
    assert len(refused) == 1


@pytest.mark.slow
def test_on_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto refuses the second put, as AWS does: nothing is waited for."""
    monkeypatch.setattr(module, "SETTLE_SECONDS", 1e9)
    place = place_of(f"{s3.url}/runs/x")
    assert isinstance(place, UPath)
    with hold_store(place, nothing):
        check_lease(place)
        with pytest.raises(UserError, match="is written by process"):
            hold_store(place, nothing).__enter__()
    assert not (place / "lease.json").exists()
    put(place)
    with pytest.raises(UserError, match=r"process 4711 on node-7 .*its last sign of life is \d s old"):
        hold_store(place, nothing).__enter__()
    monkeypatch.setattr(module, "STALE_SECONDS", -1.0)
    with hold_store(place, nothing):
        check_lease(place)
    assert not place.exists()
