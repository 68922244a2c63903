"""The engine ray when something is lost: a host, of which another takes the place; the command; the head.

The cluster is raylets on this machine with room for one rank each (test_elastic_ray.py), one for all tests.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from cluster import ray_claims
from cluster.environment import REPOSITORY
from tests.cluster.test_elastic import last, saved, starts, steps, trains_on
from tests.cluster.test_elastic_ray import LAUNCH, OWN, Cluster, kill_all, ranks_of, wait_until
from tests.cluster.test_multihost import SETTINGS
from tests.datasets import make_dataset

BEGUN_SECONDS = 300.0
"""For a busy machine: about 30 s where nothing else runs, most of it imports."""

NOTICED_SECONDS = 4.0
"""By then the head knows that a host is gone: by the cluster's settings after two looks, a second apart."""


@dataclass
class Place:
    """The cluster, and what a run on it needs."""

    cluster: Cluster
    stack: ExitStack
    folder: Path

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "run"

    def start(self, log: Path) -> "subprocess.Popen[bytes]":
        """The command, its output in the file."""
        own = [*OWN, f"run_dir={self.run}", f"data.path={self.folder / 'data'}", "tracking.uri=http://127.0.0.1:9"]
        with log.open("w") as output:
            launched = subprocess.Popen(
                [*LAUNCH, *SETTINGS, *own],
                cwd=REPOSITORY,
                env=self.cluster.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.stack.callback(launched.kill)
        return launched


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(stack, tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    make_dataset(tmp_path / "data", tokens=20_000, vocab_size=300, tokenizer=b"")
    with ExitStack() as stack:
        yield Place(cluster, stack, tmp_path)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """In place of Ray's head: its store, the names that claim hosts, and the jobs that have ended."""
    found = SimpleNamespace(store=dict[bytes, bytes](), claims=set[str](), over=set[str](), job="01000000")
    kv, store = ray_claims.internal_kv, found.store
    monkeypatch.setattr(kv, "_internal_kv_put", lambda key, value: store.update({key.encode(): value.encode()}))
    monkeypatch.setattr(kv, "_internal_kv_get", store.get)
    monkeypatch.setattr(kv, "_internal_kv_del", lambda key: store.pop(key if isinstance(key, bytes) else key.encode()))
    monkeypatch.setattr(
        kv, "_internal_kv_list", lambda prefix: [key for key in store if key.startswith(prefix.encode())]
    )
    job = SimpleNamespace(get_job_id=lambda: found.job)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: job)
    jobs = [f"{number:02d}000000" for number in range(1, 5)]
    monkeypatch.setattr(
        ray._private.state, "jobs", lambda: [{"JobID": name, "IsDead": name in found.over} for name in jobs]
    )
    held = SimpleNamespace(remote=lambda name: {"node": {"CPU": 1.0}} if name in found.claims else {})
    ended = SimpleNamespace(remote=found.claims.discard)
    hosts = SimpleNamespace(get_reserved_resources=held, cancel_request=ended)
    monkeypatch.setattr(ray, "get_actor", lambda name, namespace: hosts)
    monkeypatch.setattr(ray, "get", lambda answer, timeout: answer)
    return found


def test_only_the_claims_of_ended_jobs_are_taken_back(head: SimpleNamespace) -> None:
    for number, run in enumerate("abc", 1):
        head.job = f"{number:02d}000000"
        ray_claims.note_claim(run)
        head.claims.add(f"train-{run}")
    head.store[b"another's"] = b"01000000"
    head.over = {"01000000", "03000000"}
    head.claims.remove("train-c")  # Ray has ended it by itself: after three minutes
    assert ray_claims.take_back() == 1
    assert head.claims == {"train-b"}
    assert set(head.store) == {b"electra-claim-train-b", b"another's"}
    ray_claims.forget_claim("b")
    assert set(head.store) == {b"another's"}
    assert ray_claims.take_back() == 0


def test_another_ray_that_has_no_such_things_is_no_mistake(
    head: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise AttributeError("gone in another version")

    for name in ("_internal_kv_put", "_internal_kv_list", "_internal_kv_del"):
        monkeypatch.setattr(ray_claims.internal_kv, name, refuse)
    ray_claims.note_claim("a")
    ray_claims.forget_claim("a")
    assert ray_claims.take_back() == 0


@pytest.mark.slow
def test_a_host_is_killed_and_another_comes(place: Place) -> None:
    run, log = place.run, place.folder / "launch.log"
    host = place.cluster.add_host()
    launched = place.start(log)
    wait_until(lambda: last(run) > saved(run) > 0, log, BEGUN_SECONDS)
    assert starts(run)[-1][0] == 2
    whole = saved(run)
    kill_all(host)
    done = last(run)
    alone = wait_until(lambda: trains_on(run, 1), log)
    assert whole <= starts(run)[-1][1] <= done
    other = place.cluster.add_host()
    again = wait_until(lambda: trains_on(run, 2), log)
    print(f"alone after {alone:.0f} s, together again after {again:.0f} s; starts {starts(run)}")
    launched.send_signal(signal.SIGTERM)
    assert launched.wait(60) == 75, log.read_text()
    assert not ranks_of(run)
    found = steps(run)
    assert found == list(range(1, len(found) + 1))
    assert saved(run) == found[-1]
    kill_all(other)  # what comes next is for the head alone
    time.sleep(NOTICED_SECONDS)


@pytest.mark.slow
def test_the_command_is_killed_and_started_again_then_the_head_is_lost(place: Place) -> None:
    """The claim that Ray would keep for three minutes is taken back: Ray says that the killed command has ended.

    Without its head the run ends with one sentence and 75, and nothing of it is left.
    """
    run, log, again = place.run, place.folder / "launch.log", place.folder / "again.log"
    killed = place.start(log)
    wait_until(lambda: last(run) > saved(run) > 0, log, BEGUN_SECONDS)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    launched = place.start(again)
    seconds = wait_until(lambda: len(starts(run)) == 2 and trains_on(run, 1), again, BEGUN_SECONDS)
    print(f"trains again after {seconds:.0f} s")
    assert "a killed run's claim on the cluster's hosts is taken back" in again.read_text()
    kill_all(place.cluster.head)
    assert launched.wait(80) == 75, again.read_text()
    text = again.read_text()
    assert len([line for line in text.splitlines() if "Ray has ended" in line]) == 1, text
    assert "Traceback" not in text
    wait_until(lambda: not ranks_of(run), again, 40)
    found = steps(run)
    assert found == list(range(1, len(found) + 1))
