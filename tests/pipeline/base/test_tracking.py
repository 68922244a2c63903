"""Tracking: one run per stage, continued after a restart, linked to its parents, and never in the way of the work."""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline.base import tracking
from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import Preempted, UserError
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id, start_run
from tests.mlflow_server import new_database


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{new_database(tmp_path_factory.mktemp('mlflow'))}"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def config(uri: str, *settings: str) -> RunConfig:
    return load_config(None, [f"tracking.uri={uri}", "tracking.experiment=test", *settings])


def test_one_run_per_stage_goes_on_after_a_restart(store: str, folder: RunFolder) -> None:
    with pytest.raises(Preempted), start_run(config(store), "pretrain", folder, {"parent.run_id": "abc"}) as tracker:
        tracker.metrics(1, {"train/loss": 2.5})
        first = tracker.run_id
        raise Preempted
    client = MlflowClient(store)
    assert client.get_run(str(first)).info.status == "KILLED"
    with start_run(config(store, "train.log_every=7"), "pretrain", folder, {}) as tracker:
        tracker.metrics(2, {"train/loss": 1.5})
    assert tracker.run_id == first == read_run_id(folder, "pretrain")
    run = client.get_run(str(first))
    assert run.info.status == "FINISHED"
    assert run.data.params["train.log_every"] == "100"
    assert run.data.tags["changed.train.log_every"] == "7"
    assert run.data.tags["parent.run_id"] == "abc"
    points = client.get_metric_history(str(first), "train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 2.5), (2, 1.5)]
    with pytest.raises(ValueError, match="ours"), start_run(config(store), "export", folder, {}) as tracker:
        raise ValueError("ours")
    assert client.get_run(str(tracker.run_id)).info.status == "FAILED"
    assert tracker.run_id != first


def test_ranks_that_are_not_active_do_nothing(folder: RunFolder) -> None:
    with start_run(config("sqlite:///nowhere.db"), "pretrain", folder, {}, active=False) as tracker:
        tracker.metrics(1, {"train/loss": 1.0})
    assert tracker.run_id is None
    assert not folder.path.exists()


@pytest.mark.parametrize("uri", ["mlflow.db", "ftp://host/x", "http//host"])
def test_an_unusable_store_is_refused_with_the_config(uri: str) -> None:
    with pytest.raises(UserError, match=r"tracking\.uri: not a tracking store"):
        config(uri)


@pytest.mark.parametrize("content", ["{", "[]", '{"pretrain": 3}'])
def test_a_damaged_tracking_file_does_not_stop_the_work(content: str, store: str, folder: RunFolder) -> None:
    folder.path.mkdir()
    folder.tracking.write_text(content)
    assert read_run_id(folder, "pretrain") is None
    with start_run(config(store), "pretrain", folder, {}) as tracker:
        tracker.metrics(1, {"train/loss": 1.0})
    assert tracker.run_id == read_run_id(folder, "pretrain") is not None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "START_SECONDS", 1.0)
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 20.0)
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_a_server_that_is_away_stops_nothing_and_gets_all_later(
    impatient: None, closed_port: int, store: str, folder: RunFolder
) -> None:
    with start_run(config(f"http://127.0.0.1:{closed_port}"), "pretrain", folder, {}) as tracker:
        tracker.metrics(1, {"train/loss": 3.0})
    assert tracker.run_id is None
    with start_run(config(store), "pretrain", folder, {}) as tracker:
        pass
    points = MlflowClient(store).get_metric_history(str(tracker.run_id), "train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 3.0)]


def test_a_server_that_answers_nonsense_stops_nothing(impatient: None, folder: RunFolder) -> None:
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

        do_POST: Callable[["Broken"], None] = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with start_run(config(f"http://127.0.0.1:{server.server_port}"), "export", folder, {}) as tracker:
            tracker.metrics(1, {"x": 1.0})
    finally:
        server.shutdown()
        server.server_close()
    assert tracker.run_id is None
