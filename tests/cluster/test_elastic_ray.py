"""The engine ray: what it asks the cluster for, and what it makes of exit codes.

The account of what a worker is told is tested without Ray's processes. A cluster of raylets on this machine, each with
room for one rank, is here too: test_ray_losses.py runs on it.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from benchmarks.kills import below, title
from cluster import elastic_ray, launch, ray_rank
from cluster.elastic_ray import Elastic, Room, find_room
from cluster.environment import REPOSITORY
from cluster.ray_rank import Account, rank_environment
from pipeline.base.errors import UserError
from tests.pipeline.test_preprocess_cluster import started, wait_for
from tests.ports import HOST, free_ports

WAIT_SECONDS = 300.0
OWN = ["train.steps=1000000", "train.save_every=10", "train.batch_size=9", "train.peer_timeout=5"]
# Hosts that come are looked for more often than in earnest.
SOONER = (
    "import sys; from cluster import elastic_ray, launch; elastic_ray.RESIZE_SECONDS = 2.0; sys.exit(launch.main())"
)
LAUNCH = [sys.executable, "-c", SOONER, "--hosts", "1:2", "--"]


def wanted(slots: int | None = None, hosts: tuple[int, int | None] = (1, None)) -> Elastic:
    return Elastic(slots=slots, hosts=hosts, restarts=10, patience=600.0)


@pytest.mark.parametrize(
    ("asked", "nodes", "each", "ranks"),
    [
        (wanted(), [{"CPU": 8.0}, {"CPU": 8.0}], {"CPU": 8.0}, (1, 2)),
        (wanted(slots=4), [{"CPU": 8.0}, {"CPU": 9.0}, {"memory": 1.0}], {"CPU": 2.0}, (4, 8)),
        (wanted(hosts=(2, 3)), [{"CPU": 8.0}], {"CPU": 8.0}, (2, 3)),
        (wanted(hosts=(3, None)), [{"CPU": 8.0}], {"CPU": 8.0}, (3, 3)),
        (wanted(), [{"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}], {"GPU": 1, "CPU": 1}, (2, 10)),
        (wanted(hosts=(1, 4)), [{"CPU": 64.0, "GPU": 8.0}], {"GPU": 1, "CPU": 1}, (8, 32)),
    ],
)
def test_what_a_rank_asks_for(
    asked: Elastic, nodes: list[dict[str, float]], each: dict[str, float], ranks: tuple[int, int]
) -> None:
    assert find_room(nodes, asked) == Room(each, ranks)


@pytest.mark.parametrize(
    ("asked", "nodes", "message"),
    [
        (wanted(slots=2), [{"CPU": 8.0, "GPU": 1.0}], "--slots is for clusters without GPUs"),
        (wanted(slots=0), [{"CPU": 8.0}], "--slots 0"),
        (wanted(slots=9), [{"CPU": 8.0}], "--slots 9: a host of the Ray cluster has CPUs for 8 only"),
        (wanted(), [{"memory": 1.0}], "has a CPU or a GPU to train on"),
    ],
)
def test_no_room(asked: Elastic, nodes: list[dict[str, float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_room(nodes, asked)


@pytest.mark.parametrize(
    ("argv", "address", "message"),
    [
        ([], None, "no hostfile is given, and no Ray cluster is there"),
        (["--engine", "ray"], None, r"no Ray cluster is there\. Start one \(ray start --head"),
        (["hosts", "--engine", "ray"], "10.0.0.1:6379", "leave hosts out"),
        (["--engine", "torch"], "10.0.0.1:6379", "no hostfile is given: .* --engine torch"),
        ([], "ray://10.0.0.1:10001", "give its head as HOST:PORT"),
        ([], f"{HOST}:1", f"cannot connect to the Ray cluster at {HOST}:1: .*Connection refused"),
        (["--engine", "ray", "--hosts", "2:1"], f"{HOST}:1", "--hosts 2:1"),
    ],
)
def test_what_cannot_be_started(
    argv: list[str],
    address: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ, RAY_TMPDIR=str(tmp_path)))
    os.environ.pop("RAY_ADDRESS", None)
    if address is not None:
        os.environ["RAY_ADDRESS"] = address
    assert launch.main([*argv, "--", "x=1"]) == 2
    assert re.match(f"launch: .*{message}", capsys.readouterr().err)


@pytest.mark.parametrize(("argv", "most"), [([], None), (["--hosts", "2"], None), (["--hosts", "1:4"], 4)])
def test_without_a_hostfile_a_ray_cluster_is_taken(
    argv: list[str], most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[Elastic, list[str]]] = []
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(elastic_ray, "run_ray", lambda how, given, environment: taken.append((how, given)) or 75)
    assert launch.main([*argv, "--slots", "2", "--", "x=1"]) == 75
    assert taken[0][0].hosts == (2 if argv == ["--hosts", "2"] else 1, most)
    assert (taken[0][0].slots, taken[0][1]) == (2, ["x=1"])


def begun(account: Account, attempt: str, hosts: str) -> bool:
    """Whether all ranks are to start; hosts: a letter for each rank's."""
    answers = [account.begin(attempt, rank, len(hosts), host) for rank, host in enumerate(hosts)]
    return all(answers)


def test_a_run_from_its_start_to_its_end() -> None:
    account = Account(1, "")
    assert begun(account, "one", "aab")
    assert account.poll(2, ["x", "y"]) == 0
    assert account.news()[:2] == (["b: x", "b: y"], ["3 ranks on a (2), b (1)"])
    assert account.news()[:2] == ([], [])
    assert not account.ended("one", 0, 0, [], False)
    assert account.poll(1, []) == 0  # it ends by itself
    assert not account.ended("one", 1, 75, [], False)
    assert account.code() == 0
    assert not begun(account, "two", "a")


def test_a_mistake_ends_the_run_at_once() -> None:
    account = Account(10, "")
    assert begun(account, "one", "ab")
    assert account.ended("one", 1, 75, [], False)
    assert not account.ended("one", 0, 2, ["pretrain: mend it"], False)
    assert account.code() == 2
    assert account.poll(1, []) == 1
    assert not begun(account, "two", "ab")
    assert account.news()[0] == ["a: pretrain: mend it"]


@pytest.mark.parametrize(("code", "ends"), [(75, 75), (1, 1), (-9, 1)])
def test_failures_in_a_row_end_the_run(code: int, ends: int) -> None:
    """One for each start of the ranks, however many report; a start of which nobody is left to report counts too."""
    account = Account(2, "")
    assert begun(account, "one", "ab")
    assert account.ended("one", 0, code, [], False)
    assert account.ended("one", 1, 75, [], False)
    assert begun(account, "two", "ab")
    assert begun(account, "three", "ab")
    assert not account.ended("three", 1, code, [], False)
    assert account.code() == ends
    assert "failed 3 times in a row" in account.news()[1][-1]


def test_ranks_that_make_room_for_others_have_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(0, "")
    assert begun(account, "one", "a")
    assert account.ended("one", 0, 75, [], True)
    assert begun(account, "two", "ab")
    assert account.code() is None
    monkeypatch.setattr(ray_rank, "SETTLED_SECONDS", -1.0)  # failures of a day before are forgotten
    account = Account(1, "")
    for attempt in "abc":
        assert begun(account, attempt, "a")
        assert account.ended(attempt, 0, 1, [], False)


def test_a_stopped_run_goes_on_with_the_next_command() -> None:
    account = Account(10, "")
    assert begun(account, "one", "ab")
    account.stop()
    assert account.poll(0, []) == 1
    account.stop()
    assert account.poll(0, []) == 2
    assert not account.ended("one", 0, 75, [], False)
    assert account.code() is None
    assert not begun(account, "two", "ab")


def test_who_waits_for_hosts_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(10, "2 ranks (1 GPU each)")
    assert account.news()[1] == []
    monkeypatch.setattr(ray_rank, "WAITS_SECONDS", -1.0)
    assert account.news()[1] == ["waiting until the Ray cluster has room for 2 ranks (1 GPU each)."]
    assert account.news()[1] == []


def test_the_variables_of_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's path is its workers', and its number of threads is that of a GPU's rank's one CPU."""
    monkeypatch.setenv("HOME", "/home/me")
    base = {"PYTHONPATH": "/tmp/ray", "OMP_NUM_THREADS": "1", "PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0,1"}
    place = {"RANK": 3, "LOCAL_RANK": 1}
    found = rank_environment(base, {"A": "$HOME/a"}, place, ("id", "10.0.0.1", 2000))
    assert found == {
        "PATH": f"{Path(sys.executable).parent}:/bin",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "ELECTRA_RENDEZVOUS_SECONDS": "120",
        "A": "/home/me/a",
        "RANK": "3",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "2000",
        "TORCHELASTIC_RUN_ID": "id",
    }
    base["CUDA_VISIBLE_DEVICES"] = ""
    assert rank_environment(base, {}, place, ("id", "10.0.0.1", 2000))["OMP_NUM_THREADS"] == "1"


def test_a_rank_does_not_outlive_its_worker() -> None:
    """However the worker ends, also where that is before the rank has set itself up."""
    rank = "import signal, time; signal.signal(15, lambda *_: print('saved', flush=True) or exit(75)); time.sleep(60)"
    worker = f"""
import os, subprocess, sys, time
from cluster.ray_rank import BOUND
rank = subprocess.Popen([sys.executable, "-c", BOUND, str(os.getpid() + int(sys.argv[1])), "-c", {rank!r}])
time.sleep(float(sys.argv[2]))
os._exit(rank.poll() or 0)
"""
    line = [sys.executable, "-c", worker]
    settled = subprocess.run([*line, "0", "2"], cwd=REPOSITORY, capture_output=True, timeout=50, check=False)
    assert settled.stdout == b"saved\n"  # the pipe's end is the rank's
    early = subprocess.run([*line, "1", "2"], cwd=REPOSITORY, capture_output=True, timeout=50, check=False)
    assert (early.returncode, early.stdout) == (75, b"")


class Cluster:
    """A head, and hosts that come and go."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.stack = stack
        gcs, dashboard, client, *self.agents = free_ports(6)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_TEST_LOGS": str(folder),
            "RAY_ADDRESS": f"{HOST}:{gcs}",
            "RAY_health_check_period_ms": "1000",  # a dead raylet is given up sooner than in earnest
            "RAY_health_check_failure_threshold": "2",
            "RAY_worker_niceness": "0",  # Ray's 15 would let the ranks starve beside this machine's other work
        }
        short = stack.enter_context(tempfile.TemporaryDirectory(prefix="rt"))  # sockets need a short path
        head = [f"--port={gcs}", f"--temp-dir={short}", "--include-dashboard=false", f"--dashboard-port={dashboard}"]
        ports = [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={self.agents[0]}"]
        self.head = started(stack, self.environment, "--head", *head, *ports)
        stack.callback(kill_all, self.head)
        wait_for(gcs)

    def add_host(self) -> int:
        """The process that has started its raylet."""
        port = self.agents.pop()
        address = self.environment["RAY_ADDRESS"]
        options = [f"--address={address}", f"--dashboard-agent-listen-port={port}", "--include-log-monitor=false"]
        process = started(self.stack, self.environment, *options)
        self.stack.callback(kill_all, process)  # Ray's own end takes long
        wait_for(port)
        return process


def wait_until(found: Callable[[], bool], log: Path, seconds: float = WAIT_SECONDS) -> float:
    """Seconds until then."""
    begun = time.monotonic()
    while not found():
        assert time.monotonic() - begun < seconds, log.read_text()[-4000:]
        time.sleep(0.2)
    return time.monotonic() - begun


def kill_all(top: int) -> None:
    """A host's power is cut."""
    for process in [*below(top), top]:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def ranks_of(run: Path) -> list[str]:
    """Processes that train in the run's folder."""
    titles = [title(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [text for text in titles if f"run_dir={run}" in text]
