"""A host is cut off in the middle of training: the other goes on from the last checkpoint; mended, both train again.

The hosts are namespaces of this machine (tests/cluster/namespaces.py); the rendezvous is on a third place of their
network. The first host is cut: it has rank 0, which holds the run's folder, and sees the folder all the time.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.environment import REPOSITORY
from tests.cluster.namespaces import SWITCH, child_of, make_hosts, network_command, why_not
from tests.cluster.test_multihost import SETTINGS
from tests.datasets import make_dataset

pytestmark = pytest.mark.slow
GOES_ON_SECONDS = 60.0
"""What docs/cluster.md promises, from the cut to the first step of those who are left."""
WAIT_SECONDS = 120.0
SAVE_EVERY = 20
BATCH = 9
# A silent host is given up sooner than in earnest, after 6 s and not after 15: the test is about the order of things.
SOONER = """
import sys
from cluster import elastic_torch, launch
elastic_torch.BEAT_SECONDS, elastic_torch.READ_SECONDS = 2, 10
sys.exit(launch.main())
"""
LAUNCH = [sys.executable, "-c", SOONER, "--store", SWITCH]
OWN = ["train.steps=1000000", f"train.save_every={SAVE_EVERY}", f"train.batch_size={BATCH}", "train.peer_timeout=5"]


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work in the repository; what is left of it at the end is killed."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(what: Callable[[], bool], seconds: float, folder: Path) -> float:
    """Seconds until it holds; past the limit the test fails with the hosts' output."""
    begin = time.monotonic()
    while not what():
        said = "\n".join(path.read_text()[-3000:] for path in sorted(folder.glob("*.out")))
        assert time.monotonic() - begin < seconds, said
        time.sleep(0.1)
    return time.monotonic() - begin


def steps(run: Path) -> list[int]:
    """The steps in metrics.jsonl, in its order."""
    if not (run / "metrics.jsonl").exists():
        return []
    text = (run / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    assert all(line["train/samples"] == BATCH * line["step"] for line in lines if "train/samples" in line)
    return [line["step"] for line in lines if "train/loss" in line]


def last(run: Path) -> int:
    """The newest step in metrics.jsonl."""
    return max(steps(run), default=0)


def saved(run: Path) -> int:
    """The newest complete checkpoint's step."""
    mark = run / "checkpoints" / "latest"
    return int(mark.read_text().strip().removeprefix("step-")) if mark.exists() else 0


def starts(run: Path) -> list[tuple[int, int]]:
    """(Ranks, step) of every start, as rank 0 logged them."""
    log = run / "log" / "rank-0.log"
    lines = log.read_text().splitlines() if log.exists() else []
    begun = [line.partition("parameters; ")[2] for line in lines if " parameters; " in line]
    return [(int(line.split()[0]), int(line.partition(", step ")[2].split()[0])) for line in begun]


def trains_on(run: Path, ranks: int) -> bool:
    """Whether so many ranks have done a step since they began."""
    world, first = starts(run)[-1]
    return world == ranks and last(run) > first


def test_a_host_is_cut_off_and_returns(tmp_path: Path) -> None:
    reason = why_not(ssh=False)
    if reason:
        pytest.skip(reason)
    make_dataset(tmp_path / "data", tokens=20_000, vocab_size=300, tokenizer=b"")
    run = tmp_path / "run"
    training = [*SETTINGS, *OWN, f"run_dir={run}", f"data.path={tmp_path / 'data'}"]
    training += ["tracking.uri=http://127.0.0.1:9"]  # nobody answers: a database would take longer than the training
    node = [*LAUNCH, "--node", "--hosts=1:2", "--slots=1", "--", *training]
    with (
        make_hosts(tmp_path, ssh=False) as (first, second),
        running(network_command(first.switch, [*LAUNCH, "--serve"]), tmp_path / "store.out") as store,
        running(first.command(node, REPOSITORY), tmp_path / "first.out") as one,
        running(second.command(node, REPOSITORY), tmp_path / "second.out") as two,
    ):
        wait_for(lambda: last(run) > saved(run) > 0, WAIT_SECONDS, tmp_path)
        assert starts(run)[-1][0] == 2
        whole = saved(run)
        first.cut()
        done = last(run)
        alone = wait_for(lambda: trains_on(run, 1), GOES_ON_SECONDS, tmp_path)
        assert whole <= starts(run)[-1][1] <= done

        first.mend()
        again = wait_for(lambda: trains_on(run, 2), WAIT_SECONDS, tmp_path)
        print(f"alone after {alone:.0f} s, together again after {again:.0f} s; starts {starts(run)}")
        for pid in (child_of(one.pid), child_of(two.pid), store.pid):
            os.kill(pid, signal.SIGTERM)
        assert [process.wait(60) for process in (one, two, store)] == [75, 75, 75]
    found = steps(run)
    assert found == list(range(1, len(found) + 1))
