"""Jobs for Ray: what is refused before anything is sent, what travels, and the exit code that comes back."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import requests

from cluster import ray_job
from pipeline.base.errors import UserError
from tests.ports import free_port, free_ports


def test_the_command_becomes_one_quoted_line() -> None:
    command = ["python", "pipeline/preprocess.py", "run_dir=/shared/a b", "corpus.paths=[/x, /y]"]
    line = "python pipeline/preprocess.py 'run_dir=/shared/a b' 'corpus.paths=[/x, /y]'"
    assert ray_job.entrypoint(command) == line


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], "no command"),
        (["python", "pipeline/preprocess.py"], "run_dir is not given"),
        (["python", "pipeline/preprocess.py", "run_dir=runs/a"], "run_dir=runs/a is relative"),
    ],
)
def test_what_cannot_work_is_refused(command: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ray_job.entrypoint(command)


def test_what_travels() -> None:
    environment = ray_job.runtime_environment(["A=b=c"])
    assert environment["working_dir"] == str(ray_job.REPOSITORY)
    assert {"/.venv/", "/runs/", "/.git/"} <= set(environment["excludes"])
    assert environment["env_vars"] == {"A": "b=c"}
    assert "env_vars" not in ray_job.runtime_environment([])
    with pytest.raises(UserError, match="NAME=VALUE"):
        ray_job.runtime_environment(["A"])


def test_exit_codes() -> None:
    assert ray_job.exit_code("SUCCEEDED", 0, None) == 0
    assert ray_job.exit_code("FAILED", 2, "exited") == 2
    assert ray_job.exit_code("FAILED", -9, "killed") == 137
    assert ray_job.exit_code("STOPPED", None, None) == ray_job.STOPPED
    with pytest.raises(UserError, match="no space"):
        ray_job.exit_code("FAILED", None, "no space")


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return  # it asks for the token of this user's earlier clusters
        except OSError:
            assert process.poll() is None, "ray start ended"
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def head() -> Iterator[str]:
    """A Ray cluster of one node on loopback, in a session of its own; every process of it is gone afterwards."""
    gcs, dashboard, client, agent = free_ports(4)  # Ray's own are the same for every cluster of a machine
    # The default folder would make this cluster everybody's "auto"; pytest's own are too deep for the names of sockets.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    line = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=1"]
    line += [f"--port={gcs}", f"--dashboard-port={dashboard}", "--node-ip-address=127.0.0.1"]
    line += [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [*line, "--disable-usage-stats", f"--temp-dir={folder}"],
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(f"{address}/api/version", process)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(40)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)


def submit(address: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: Ray reads how to prove who it is only once, when it is imported."""
    line = [sys.executable, "-m", "cluster.ray_job", "--address", address, *arguments]
    return subprocess.run(line, cwd=ray_job.REPOSITORY, text=True, capture_output=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_job_on_a_cluster(head: str) -> None:
    code = "import os, sys; print('found', *sorted(os.listdir('.')), os.environ['A']); sys.exit(7)"
    done = submit(head, "--env", "A=given", "--", "python", "-c", code)
    assert done.returncode == 7, done.stderr
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    names = found.split()[1:]
    assert {"model", "pipeline", "cluster", "configs", "given"} <= set(names)
    assert not {".venv", ".git", "runs", "corpus", "mlflow.db"} & set(names)


class LostCluster:
    """A job's client whose cluster is gone after the job was taken."""

    def __init__(self, address: str) -> None:
        self.address = address

    def submit_job(self, **settings: object) -> str:
        return "raysubmit_1"

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield "the first line\n"
        raise aiohttp.ServerDisconnectedError

    def get_job_status(self, job: str) -> object:
        raise requests.exceptions.ConnectionError("Connection refused")


def test_a_cluster_that_is_lost_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", LostCluster)
    assert ray_job.submit("http://head:8265", "python -c pass", {}) == 75
    shown = capsys.readouterr()
    assert "the first line\n" in shown.out
    assert "http://head:8265 does not answer any more (Connection refused)" in shown.err

    def refuses(self: LostCluster, **settings: object) -> str:
        raise requests.exceptions.ConnectionError("Connection refused")

    monkeypatch.setattr(LostCluster, "submit_job", refuses)
    with pytest.raises(UserError, match=r"no job could be submitted to http://head:8265: Connection refused\. Is `ray"):
        ray_job.submit("http://head:8265", "python -c pass", {})


@pytest.mark.slow
def test_no_cluster_there() -> None:
    done = submit(f"http://127.0.0.1:{free_port()}", "--", "python", "-c", "pass")
    assert done.returncode == 2
    assert "ray start --head" in done.stderr
    assert "Traceback" not in done.stderr
