"""Who is gone, told from heartbeats alone; the store is a dictionary here, and the beats are made by hand."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
import torch.distributed as dist

from pipeline.base.processes import birth_of
from pipeline.training.launcher import DEEPSPEEDS, ELASTIC
from pipeline.training.peers import Lost, Member, News, Peers, is_peer_error


class Store(dict[str, str]):
    """What Peers needs of torch's store."""

    away = False

    def set(self, key: str, value: str) -> None:
        self[key] = value

    def multi_get(self, keys: list[str]) -> list[bytes]:
        if self.away:
            raise dist.DistNetworkError("Failed to recv, got 0 bytes.")
        return [self[key].encode() for key in keys]


HOSTS = [Member(host, "10.0.0.2" if host == "beta" else "", -1, None) for host in ("alpha", "alpha", "beta", "beta")]


def beat(store: Store, count: int, *ranks: int, **more: Any) -> None:
    for rank in ranks:
        store[str(rank)] = json.dumps(asdict(News(beat=count, **more)))


@pytest.fixture
def seen() -> tuple[Store, Peers]:
    store = Store()
    beat(store, 1, *range(4))
    return store, Peers(0, HOSTS, store)


def test_a_silent_host_is_lost_and_named_once_a_host(seen: tuple[Store, Peers]) -> None:
    store, peers = seen
    for second in range(2, 20):
        beat(store, second, 0, 1)
        peers._read(1.0)
        assert peers.lost(15.0) == ([2, 3] if second > 17 else [])
    lost = peers.lost(15.0)
    assert peers.sentence(lost, "step 1,234: agrees with the other ranks", 15.0) == (
        "host beta (10.0.0.2, ranks 2-3) is gone since step 1,234. Take beta out of the hostfile unless it is "
        "back; the same command goes on from the newest checkpoint."
    )
    assert peers.tells(lost)
    assert not Peers(1, HOSTS, store).tells(lost)
    assert Peers(1, HOSTS, store).tells([0, 2])


def test_a_rank_that_has_taken_leave_is_not_missed(seen: tuple[Store, Peers]) -> None:
    store, peers = seen
    beat(store, 2, 3, left=True)
    for second in range(2, 30):
        beat(store, second, 0, 1, 2)
        peers._read(1.0)
    assert peers.lost(15.0) == []
    assert peers.blamed(0.1) == [3]
    beat(store, 31, 2, left=True, missing=[1])
    peers._read(1.0)
    assert peers.blamed(0.1) == [1]


def test_a_store_that_does_not_answer_is_the_first_rank_lost(seen: tuple[Store, Peers]) -> None:
    store, _ = seen
    peers = Peers(3, HOSTS, store)
    peers._read(1.0)
    store.away = True
    for _ in range(16):
        with pytest.raises(dist.DistError):
            peers._read(1.0)
        peers.pass_time(1.0)
    assert peers.lost(15.0) == [0]
    assert peers.sentence([0], "the start", 15.0).startswith("rank 0 on host alpha is gone since the start. Take alpha")


def test_the_end_of_a_process_on_this_host_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        members = [Member.own(), Member(Member.own().host, "127.0.0.1", other.pid, birth_of(other.pid))]
        store = Store()
        beat(store, 1, 0, 1)
        peers = Peers(0, members, store)
        assert birth_of(os.getpid()) is not None
        assert peers.lost(15.0) == []
        other.kill()
        other.wait()
        assert peers.blamed(15.0) == [1]
    assert peers.sentence([1], "step 7: log", 15.0) == (
        f"rank 1 on host {members[0].host} is gone since step 7; the same command goes on from the newest checkpoint."
    )


def test_an_elastic_launcher_needs_nobody(seen: tuple[Store, Peers], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ELASTIC, "pretrain")
    text = seen[1].sentence([2], "step 7: log", 15.0)
    assert text.startswith("rank 2 on host beta (10.0.0.2) is gone since step 7; the launcher starts the ranks again")
    monkeypatch.delenv(ELASTIC)
    monkeypatch.setenv(DEEPSPEEDS, "2")
    monkeypatch.setattr("sys.argv", ["pipeline/pretrain.py", "--local_rank=0", "--config", "a b.yaml"])
    text = seen[1].sentence([2, 3], "step 7: log", 15.0)
    assert text.endswith("start again: deepspeed --hostfile HOSTFILE pipeline/pretrain.py --config 'a b.yaml'")


def test_which_rank_waits_where(seen: tuple[Store, Peers]) -> None:
    store, peers = seen
    peers.tell(place="step 5: agrees")
    beat(store, 2, 1, 3, place="step 5: agrees")
    beat(store, 2, 2, place="step 5: waits for data")
    peers._read(1.0)
    assert peers.places() == "ranks 0-1, 3 at step 5: agrees; rank 2 on host beta (10.0.0.2) at step 5: waits for data"
    for second in range(3, 10):
        beat(store, second, 1, 3, place="step 5: agrees")
        peers._read(1.0)
    assert peers.places().endswith("step 5: waits for data (silent for 7 s: no stacks of it)")


def test_errors_of_collectives() -> None:
    closed = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:41156."
    assert is_peer_error(RuntimeError(closed))
    assert is_peer_error(dist.DistNetworkError("Failed to recv, got 0 bytes."))
    assert not is_peer_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_peer_error(ValueError(closed))
    for cause in (RuntimeError(closed), RuntimeError("Tensors must be contiguous")):
        lost = Lost("told by a thread")
        lost.__cause__ = cause
        assert is_peer_error(lost) == is_peer_error(cause)
