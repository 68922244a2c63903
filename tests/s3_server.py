"""A real S3 protocol server on loopback: moto in a process of its own, behind a gate that is killed and started again.

moto keeps objects in its memory, so it runs through; what clients reach is the gate, a process that passes bytes on.
Killing it breaks every connection and refuses new ones, as a killed server does, and what was stored is still there
when it is back.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import HOST, free_port

GATE = Path(__file__).with_name("s3_gate.py")
KEY, SECRET = "test-access-key", "test-secret-that-is-never-told"


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Until the process listens."""
    for _ in range(600):
        with socket.socket() as asked:
            if asked.connect_ex((HOST, port)) == 0:
                return
        assert process.poll() is None, f"the server on port {port} ended with {process.returncode}"
        time.sleep(0.1)
    raise AssertionError(f"no server on port {port}")


@dataclass
class S3Server:
    """The gate to a server, and an empty bucket in it. `url` is that of the bucket, `environ` what clients need."""

    backend: int
    port: int = field(default_factory=free_port)
    bucket: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:12]}")
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.port}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def start(self, dies_after: int | None = None) -> None:
        """Opens the gate; dies_after: bytes, either way, after which it is gone in the middle."""
        numbers = [self.port, self.backend, *([dies_after] if dies_after is not None else [])]
        command = [sys.executable, "-S", str(GATE), *map(str, numbers)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        with self.process.stdout as told:
            assert told.readline(), f"the gate on port {self.port} ended with {self.process.wait()}"

    def kill(self) -> None:
        """Breaks all connections; until the next start they are refused."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self, dies_after: int | None = None) -> None:
        """Kills the gate and opens it again."""
        self.kill()
        self.start(dies_after)

    def start_later(self, seconds: float) -> threading.Thread:
        """Opens the gate after a while; join the thread before the test ends."""

        def wait_and_start() -> None:
            time.sleep(seconds)
            self.restart()

        thread = threading.Thread(target=wait_and_start)
        thread.start()
        return thread

    def ended(self) -> None:
        """Waits until the gate has died of `dies_after`."""
        assert self.process is not None
        self.process.wait(60)


@pytest.fixture(scope="session")
def s3_backend() -> Iterator[int]:
    """Port of moto's server."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", HOST, "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture
def s3(s3_backend: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server with an empty bucket; the environment names it, also for processes that the test starts."""
    from pipeline.base.storage import is_remote, place_of, system_of
    from pipeline.base.stores.s3 import S3Store

    server = S3Server(s3_backend)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    S3Store.clear_instance_cache()  # one that another test's server was reached with
    server.start()
    try:
        place = place_of(server.url)
        assert is_remote(place)
        system_of(place).mkdir(server.bucket)
        yield server
    finally:
        server.kill()
        S3Store.clear_instance_cache()
