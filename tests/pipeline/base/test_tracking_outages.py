"""MLflow's server away in many ways, and runs killed and resumed: every point arrives once, the work never waits."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline import tracking as command
from pipeline.base import tracking
from pipeline.base.config import RunConfig, load_config
from pipeline.base.files import lock_folder
from pipeline.base.journal import Journal
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id, start_run
from pipeline.base.tracking_sender import TOKEN, Sender, journal_path
from tests.mlflow_server import FAULTS, FaultyServer, mlflow_server

NAMES = ("train/loss", "train/lr", "eval/loss")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, server: FaultyServer) -> Iterator[None]:
    monkeypatch.setattr(tracking, "SEND_SECONDS", 0.01)
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(tracking, "START_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    yield
    server.fault = None


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def config(server: FaultyServer, request: pytest.FixtureRequest) -> RunConfig:
    return load_config(None, [f"tracking.uri={server.url}", f"tracking.experiment={request.node.name}"])


def points(step: int) -> dict[str, float]:
    return {name: step + number / 3 for number, name in enumerate(NAMES)}


def check_points(server: FaultyServer, run_id: str, steps: int) -> None:
    """Each step's points are there, once, in order."""
    for number, name in enumerate(NAMES):
        found = server.client().get_metric_history(run_id, name)
        assert [(point.step, point.value) for point in found] == [(step, step + number / 3) for step in range(steps)]


def only_run(server: FaultyServer, config: RunConfig) -> str:
    client = server.client()
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    (run,) = client.search_runs([experiment.experiment_id])
    return str(run.info.run_id)


def test_six_outages_in_one_run(server: FaultyServer, config: RunConfig, folder: RunFolder) -> None:
    """Points are logged while the fault holds, and it holds until the sender has met it: no step waits for a server."""
    step = 0
    with start_run(config, "pretrain", folder, {}) as tracker:
        for fault in (*FAULTS, None):
            server.fault = fault
            for _ in range(150):  # more than a request takes
                tracker.metrics(step, points(step))
                step += 1
            if fault == "slow":
                server.wait_for(tracker.sender.all_sent)
            elif fault is not None:
                tracker.sender.failure = ""
                server.wait_for(lambda: tracker.sender.failure != "")
        server.wait_for(tracker.sender.all_sent)
    assert {fault for fault, _ in server.calls} == {*FAULTS, None} - {"refused"}
    run_id = only_run(server, config)
    assert run_id == tracker.run_id == read_run_id(folder, "pretrain")
    check_points(server, run_id, step)
    assert server.client().get_run(run_id).info.status == "FINISHED"


def test_a_killed_run_that_goes_on_doubles_no_point(
    server: FaultyServer, config: RunConfig, folder: RunFolder, tmp_path: Path
) -> None:
    journal = Journal(path := journal_path(folder, "pretrain"), once=True)
    journal.status("RUNNING")
    for step in range(20):
        journal.metrics(step, points(step))
    sender = Sender(config, "pretrain", folder, path)
    assert sender.send()
    journal.metrics(20, points(20))
    with open(path, "a") as file:
        file.write('{"kind": "metrics", "step": 21, "ti')  # killed here; resumed from step 10, with other speeds
    with start_run(config, "pretrain", folder, {}) as tracker:
        for step in range(10, 30):
            tracker.metrics(step, points(step) if step > 20 else dict.fromkeys(NAMES, -1.0))
            tracker.metrics(step, points(step))
    assert tracker.run_id == sender.run_id == only_run(server, config)
    check_points(server, str(tracker.run_id), 30)


def test_elsewhere_only_the_same_point_is_left_out(folder: RunFolder) -> None:
    for value in (1.0, 1.0, 2.0):  # a command that is started again; then with another file
        journal = Journal(journal_path(folder, "evaluate"))
        journal.metrics(7, {"eval/loss": value})
        journal.close()
    assert journal_path(folder, "evaluate").read_text().count("eval/loss") == 2


def test_a_run_whose_creation_was_not_answered_is_found_again(
    server: FaultyServer, config: RunConfig, folder: RunFolder
) -> None:
    journal = Journal(path := journal_path(folder, "pretrain"))
    journal.metrics(0, points(0))
    server.client().create_experiment(config.tracking.experiment)
    server.fault = "lost"
    first = Sender(config, "pretrain", folder, path)
    assert not first.send()  # the answer about the experiment is lost
    first._made_before = lambda *_: None  # type: ignore[method-assign]  # as if it got that far
    experiment = server.client().get_experiment_by_name(config.tracking.experiment).experiment_id
    with pytest.raises(Exception, match=r"500|timed out"):
        first._make(MlflowClient(server.url), experiment)
    made = only_run(server, config)
    server.fault = None
    second = Sender(config, "pretrain", folder, path)  # in a new process, too
    assert second.send()
    assert second.run_id == made == only_run(server, config)
    assert server.client().get_run(made).data.tags[TOKEN] == second.token
    check_points(server, made, 1)


def test_push_sends_what_is_left(
    server: FaultyServer, config: RunConfig, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["push", str(folder.path)]) == 2
    assert "holds no journal" in capsys.readouterr().err
    server.fault = "refused"
    with start_run(config, "export", folder, {}) as tracker:
        tracker.metrics(0, points(0))
    journal = Journal(journal_path(folder, "pretrain"))
    journal.status("RUNNING")
    journal.metrics(0, points(0))
    journal.close()  # and killed
    Sender(config, "pretrain", folder, journal_path(folder, "pretrain")).send()
    assert command.main(["push", str(folder.path)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "does not answer" in told
    server.fault = None
    with lock_folder(folder.path):
        assert command.main(["push", str(folder.path)]) == 2
        assert "is in use by process" in capsys.readouterr().err
    for said in ("bytes of points sent", "all is sent"):
        assert command.main(["push", str(folder.path)]) == 0
        assert capsys.readouterr().out.count(said) == 2
    for stage, status in (("export", "FINISHED"), ("pretrain", "KILLED")):
        run_id = str(read_run_id(folder, stage))
        assert server.client().get_run(run_id).info.status == status
        check_points(server, run_id, 1)


def test_a_password_reaches_the_server_and_nothing_else(
    server: FaultyServer,
    folder: RunFolder,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(get_logger(), "propagate", True)
    secret = "hunter2-hunter2"
    uri = server.url.replace("://", f"://me:{secret}@")
    config = load_config(None, [f"tracking.uri={uri}", "tracking.experiment=secret"])
    server.fault = "500"
    with caplog.at_level(logging.INFO), start_run(config, "pretrain", folder, {}) as tracker:
        server.wait_for(lambda: tracker.sender.failure != "")
        assert f"MLflow at {server.url.replace('://', '://***@')} does not answer" in caplog.text
        server.fault = None
    assert any(value.startswith("Basic ") for value in server.authorization)
    run = server.client().get_run(str(tracker.run_id))
    assert run.data.params["tracking.uri"] == server.url.replace("://", "://***@")
    written = [path.read_text() for path in folder.path.rglob("*") if path.is_file()]
    assert not any(secret in text for text in (*written, caplog.text, str(run.to_dictionary())))
