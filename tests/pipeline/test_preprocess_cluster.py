"""A cluster of two raylets, made by `ray start`: the same bytes as on local Ray, also when a raylet is killed."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.kills import below, kind_of, title
from pipeline.base.errors import EXIT_PREEMPTED
from pipeline.stages import preprocess
from tests.corpora import config_for, digests, make_corpus, make_texts
from tests.ports import HOST, free_ports

ROOT = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).parent / "ray")


def started(stack: ExitStack, environment: dict[str, str], *options: str) -> int:
    """A raylet that lives until the stack is left; the id of the process that has started it."""
    fixed = ["--block", "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]
    log = stack.enter_context((Path(environment["RAY_TEST_LOGS"]) / f"{len(options)}.log").open("w"))
    process = subprocess.Popen([RAY, "start", *fixed, *options], env=environment, stdout=log, stderr=log)

    def stop() -> None:
        process.send_signal(signal.SIGTERM)
        process.wait(60)

    stack.callback(stop)
    return process.pid


def wait_for(port: int, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.3)
    raise TimeoutError(f"nothing listens on port {port}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which `ray` and drivers find a cluster of two raylets on this machine."""
    gcs, dashboard, client, agent, other_agent = free_ports(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_TEST_LOGS": str(tmp_path),
    }
    with tempfile.TemporaryDirectory(prefix="rt") as short, ExitStack() as stack:  # sockets need a short path
        head = [f"--port={gcs}", f"--temp-dir={short}", f"--dashboard-host={HOST}", f"--dashboard-port={dashboard}"]
        ports = [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
        first = started(stack, environment, "--head", *head, *ports)
        wait_for(gcs)
        wait_for(dashboard)
        more = [f"--address={HOST}:{gcs}", f"--dashboard-agent-listen-port={other_agent}"]
        second = started(stack, environment, *more)
        wait_for(other_agent)
        found = {"RAY_ADDRESS": f"{HOST}:{gcs}", "JOBS": f"http://{HOST}:{dashboard}", "FIRST": str(first)}
        yield environment | found | {"SECOND": str(second)}


@pytest.mark.slow
def test_job_and_driver_on_a_cluster_give_the_local_bytes(tmp_path: Path, cluster: dict[str, str]) -> None:
    make_corpus(tmp_path / "corpus")
    preprocess.run(config_for(tmp_path, tmp_path / "local"))
    more = ["tokenizer.vocab_size=700", "corpus.task_bytes=9000", "corpus.validation_fraction=0.1"]
    more += ["data.block_tokens=512", "data.shard_blocks=5"]
    more += [f"corpus.paths=[{tmp_path / 'corpus'}]"]

    submit = [RAY, "job", "submit", f"--address={cluster['JOBS']}", "--working-dir=.", "--", "python"]
    job = [*submit, "pipeline/preprocess.py", f"run_dir={tmp_path / 'job'}", *more]
    jobs_only = {name: value for name, value in cluster.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(job, cwd=ROOT, env=jobs_only, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 CPUs on 2 host(s)" in done.stdout
    assert "tracking.uri sqlite:///mlflow.db is relative to the Ray job" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert digests(tmp_path / "job") == digests(tmp_path / "local")

    driver = [sys.executable, str(ROOT / "pipeline" / "preprocess.py"), f"run_dir={tmp_path / 'driver'}", *more]
    done = subprocess.run(driver, cwd=tmp_path, env=cluster, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 CPUs on 2 host(s)" in done.stdout
    assert digests(tmp_path / "driver") == digests(tmp_path / "local")


def strike(command: list[str], cluster: dict[str, str], log: Path, kind: str) -> tuple[int, str]:
    """Runs the driver, and kills a part of the cluster once twenty tasks are done: (exit code, what it has told)."""
    owner = int(cluster["SECOND" if kind == "raylet" else "FIRST"])
    with subprocess.Popen(
        command, cwd=log.parents[2], env=cluster, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        until = time.monotonic() + 240
        while not log.exists() or len(log.read_text().splitlines()) < 20:
            assert driver.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        victims = [process for process in below(owner) if kind_of(title(process)) == kind]
        assert len(victims) == 1
        os.kill(victims[0], signal.SIGKILL)
        told, _ = driver.communicate(timeout=300)
    assert "Traceback" not in told
    return driver.returncode, told


@pytest.mark.slow
def test_a_raylet_then_the_head_is_killed_while_a_driver_works(tmp_path: Path, cluster: dict[str, str]) -> None:
    make_corpus(tmp_path / "corpus")
    lines = [json.dumps({"text": text}) for text in make_texts(9, 3000)]
    (tmp_path / "corpus" / "z.jsonl").write_text("\n".join(lines))
    preprocess.run(config_for(tmp_path, tmp_path / "local"))
    settings = ["tokenizer.vocab_size=700", "corpus.task_bytes=9000", "corpus.validation_fraction=0.1"]
    sizes = ["data.block_tokens=512", "data.shard_blocks=5", f"corpus.paths=[{tmp_path / 'corpus'}]"]
    command = [sys.executable, str(ROOT / "pipeline" / "preprocess.py"), *settings, *sizes]

    run, log = tmp_path / "run", tmp_path / "run" / "log" / "tasks.jsonl"
    code, told = strike([*command, f"run_dir={run}"], cluster, log, "raylet")
    assert code == 0, told
    assert "2 CPUs on 2 host(s)" in told
    assert digests(run) == digests(tmp_path / "local")
    done = Counter((one["pass"], one["task"]) for one in map(json.loads, log.read_text().splitlines()))
    assert set(done.values()) == {1}
    assert len(done) > 100, "most of the tasks were done after the kill"

    run, log = tmp_path / "other", tmp_path / "other" / "log" / "tasks.jsonl"
    code, told = strike([*command, f"run_dir={run}"], cluster, log, "gcs")
    assert code == EXIT_PREEMPTED, told
    assert "start the same command again" in told
    again = subprocess.run([*command, f"run_dir={run}", "ray.address=local"], cwd=tmp_path, capture_output=True)
    assert again.returncode == 0
    assert digests(run) == digests(tmp_path / "local")
    done = Counter((one["pass"], one["task"]) for one in map(json.loads, log.read_text().splitlines()))
    assert set(done.values()) == {1}
