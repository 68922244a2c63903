"""A real MLflow server in this process, in front of a database of its own, that can be told to fail in many ways."""

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

FAULTS = ("refused", "hangs", "500", "slow", "locked", "lost")


@cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()  # makes the tables
        return Path(folder, "mlflow.db").read_bytes()


def new_database(folder: Path) -> Path:
    """folder/mlflow.db with MLflow's tables, which take seconds to make: a process makes them once."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlflow.db").write_bytes(_empty_database())
    return folder / "mlflow.db"


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing."""


class FaultyServer:
    """fault: None, or one of FAULTS.

    refused: nothing listens; hangs: the answer comes when the fault is over; 500: refused unread; slow: late; locked:
    another connection holds the database; lost: the work is done, and the answer a 500.
    """

    def __init__(self, database: Path) -> None:
        from mlflow.server import app

        self.database, self.app = database, app
        self.calls: list[tuple[str | None, str]] = []
        """Fault and path of each request."""
        self.authorization: set[str] = set()
        self._fault: str | None = None
        self._over = threading.Event()
        self._locker: sqlite3.Connection | None = None
        self._server: BaseWSGIServer | None = None
        self.port = 0
        self._listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> MlflowClient:
        """Of the database itself, not through the server."""
        return MlflowClient(f"sqlite:///{self.database}")

    @property
    def fault(self) -> str | None:
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self._over.set()
        self._over = threading.Event()
        if self._locker is not None:
            self._locker.rollback()
            self._locker.close()
            self._locker = None
        if self._server is None and fault != "refused":
            self._listen()
        elif self._server is not None and fault == "refused":
            self.close()
        if fault == "locked":
            self._locker = sqlite3.connect(self.database, timeout=30, check_same_thread=False)
            self._locker.execute("BEGIN EXCLUSIVE")
        self._fault = fault

    def wait_for(self, done: Callable[[], bool]) -> None:
        """Until it is so; fails after five minutes."""
        until = time.monotonic() + 300
        while not done():
            assert time.monotonic() < until, (self.fault, self.calls[-5:])
            time.sleep(0.01)

    def close(self) -> None:
        """Ends it, once the requests that it has taken are answered."""
        self._over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _listen(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = False  # else close() would not wait for them
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        fault, over = self._fault, self._over
        self.calls.append((fault, environ["PATH_INFO"]))
        self.authorization.add(environ.get("HTTP_AUTHORIZATION", ""))
        if fault == "hangs":
            over.wait(60)
        elif fault == "slow":
            time.sleep(0.2)
        elif fault == "500":
            return _failed(start)
        answer = b"".join(self.app(environ, held := _Held()))
        if fault == "lost":
            return _failed(start)
        start(held.status, held.headers)
        return [answer]


class _Held:
    """Keeps the first line and the headers of an answer."""

    def __call__(self, status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        self.status, self.headers = status, headers


def _failed(start: Callable[..., Any]) -> list[bytes]:
    start("500 INTERNAL SERVER ERROR", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"oops"]


@contextmanager
def mlflow_server(folder: Path) -> Iterator[FaultyServer]:
    """Serves until the context ends; one a process, for MLflow keeps its store."""
    database = new_database(folder)
    names = ("_MLFLOW_SERVER_FILE_STORE", "_MLFLOW_SERVER_ARTIFACT_ROOT")
    os.environ |= {names[0]: f"sqlite:///{database}", names[1]: str(folder / "artifacts")}
    server = FaultyServer(database)
    try:
        yield server
    finally:
        server.fault = None
        server.close()
        for name in names:
            os.environ.pop(name, None)
        with suppress(OSError):
            shutil.rmtree(folder / "artifacts")
