"""Tracking: one run per stage, continued after a restart, linked to its parents, and never in the way of the work."""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline.base import tracking, tracking_anew
from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import Preempted, UserError
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id, start_run
from pipeline.base.tracking_push import push
from pipeline.base.tracking_sender import Sender
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


def history(store: str, run_id: str | None) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(store).get_metric_history(str(run_id), "train/loss")]


def train(store: str, folder: RunFolder, values: dict[int, float], *, anew: bool, killed: bool = False) -> str | None:
    """A pretraining with these losses."""
    tracker = start_run(config(store), "pretrain", folder, {}, anew=anew)
    for step, value in values.items():
        tracker.metrics(step, {"train/loss": value})
    tracker.finish("RUNNING" if killed else "FINISHED")
    return tracker.run_id


def test_a_training_begun_anew_gets_a_run_of_its_own_and_loses_no_point(store: str, folder: RunFolder) -> None:
    """Its checkpoints were deleted, or it was killed before the first: no point of either is lost or doubled."""
    first = train(store, folder, {}, anew=True)
    assert train(store, folder, {1: 3.0, 2: 2.5, 3: 2.0}, anew=True, killed=True) == first  # nothing was to keep
    second = train(store, folder, {1: 9.0, 2: 8.0}, anew=True)
    assert train(store, folder, {2: -1.0, 3: 7.0}, anew=False) == second == read_run_id(folder, "pretrain") != first
    third = train(store, folder, {1: 1.0}, anew=True)
    found = {run_id: history(store, run_id) for run_id in (first, second, third)}
    assert found == {first: [(1, 3.0), (2, 2.5), (3, 2.0)], second: [(1, 9.0), (2, 8.0), (3, 7.0)], third: [(1, 1.0)]}
    runs = [MlflowClient(store).get_run(str(run_id)) for run_id in found]
    assert [run.data.tags.get("earlier_run_id") for run in runs] == [None, first, second]
    assert [run.info.status for run in runs] == ["KILLED", "FINISHED", "FINISHED"]
    assert sorted(path.name for path in folder.log.glob("tracking-*")) == [
        *("tracking-pretrain.1.jsonl", "tracking-pretrain.2.jsonl", "tracking-pretrain.jsonl")
    ]


def test_what_waited_of_an_earlier_training_is_sent_by_the_next(
    store: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(Sender, "_open", lambda self: 1 / 0)
        train(store, folder, {1: 3.0, 2: 2.5}, anew=True, killed=True)
    kept = tracking_anew.rename_stage

    def kill(*arguments: object) -> None:
        kept(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(tracking_anew, "rename_stage", kill)
        with pytest.raises(KeyboardInterrupt):
            train(store, folder, {}, anew=True)
    second = train(store, folder, {1: 9.0}, anew=True)
    first = read_run_id(folder, "pretrain.1")
    assert (history(store, first), history(store, second)) == ([(1, 3.0), (2, 2.5)], [(1, 9.0)])
    assert MlflowClient(store).get_run(str(first)).info.status == "KILLED"
    assert [line.split(":")[0] for line in push(folder.path, [])] == ["pretrain", "pretrain.1"]


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
