"""Many runs in one run's folder: nested, sent from one thread, and never losing each other's place."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from pipeline.base import tracking_sender
from pipeline.base.config import RunConfig, load_config
from pipeline.base.journal import Journal
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id, start_run
from pipeline.base.tracking_relay import Relay
from pipeline.base.tracking_sender import Sender, journal_path
from tests.mlflow_server import new_database


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return load_config(None, [f"tracking.uri=sqlite:///{new_database(tmp_path)}", "tracking.experiment=test"])


def test_seeds_lie_under_their_task_and_tasks_under_the_sweep_also_after_a_restart(
    config: RunConfig, folder: RunFolder
) -> None:
    """Journals written by others are sent in their order; a run is opened only when its journal is there."""
    ids: list[dict[str, str]] = []
    for start in range(2):
        with Relay(config, folder) as relay:
            relay.add("sweep")
            relay.add("sweep/task", "sweep")
            relay.add("sweep/task/seed-0", "sweep/task")
            relay.add("sweep/task/seed-1", "sweep/task")
            relay.journal("sweep").status("RUNNING")
            relay.journal("sweep/task").tags({"export_run_id": "abc"})
            work = Journal(journal_path(folder, "sweep/task/seed-0"))
            for step in range(3):
                work.metrics(10 * start + step, {"loss": float(step)})
            work.status("FINISHED")
            work.close()
        ids.append({stage: str(read_run_id(folder, stage)) for stage in ("sweep", "sweep/task", "sweep/task/seed-0")})
        assert read_run_id(folder, "sweep/task/seed-1") is None
    assert ids[0] == ids[1]
    client = MlflowClient(config.tracking.uri)
    task, seed = (client.get_run(ids[0][stage]) for stage in ("sweep/task", "sweep/task/seed-0"))
    assert task.data.tags["mlflow.parentRunId"] == ids[0]["sweep"]
    assert task.data.tags["export_run_id"] == "abc"
    assert seed.data.tags["mlflow.parentRunId"] == ids[0]["sweep/task"]
    assert seed.info.status == "FINISHED"
    points = client.get_metric_history(ids[0]["sweep/task/seed-0"], "loss")
    assert [(point.step, point.value) for point in points] == [
        (start + step, float(step)) for start in (0, 10) for step in range(3)
    ]


def test_senders_side_by_side_keep_each_others_place(config: RunConfig, folder: RunFolder) -> None:
    """Fine-tuning and an export at once once lost one of the two runs in tracking.json."""
    with start_run(config, "first", folder, {}):
        pass  # the database is made by one
    senders = []
    for number in range(8):
        journal = Journal(journal_path(folder, f"stage-{number}"))
        journal.tags({"number": str(number)})
        journal.close()
        senders.append(Sender(config, f"stage-{number}", folder, journal_path(folder, f"stage-{number}")))

    def remember(sender: Sender) -> None:
        for sent in range(1, 20):
            sender.run_id, sender.sent = f"run of {sender.stage}", sent
            sender._remember()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(remember, senders))
    state = json.loads(folder.tracking.read_text())
    assert {stage: entry["sent"] for stage, entry in state.items() if stage != "first"} == {
        f"stage-{number}": 19 for number in range(8)
    }
    assert "first" in state


class _Client:
    """Takes everything but a model."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def get_run(self, run_id: str) -> None:
        self.calls.append("get_run")

    def set_terminated(self, run_id: str, status: str) -> None:
        self.calls.append(status)


def test_a_model_that_the_server_does_not_take_holds_nothing_up(
    config: RunConfig, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any) -> None:
        raise ValueError("no such endpoint")

    monkeypatch.setattr(tracking_sender, "send_model", refused)
    monkeypatch.setattr(get_logger(), "propagate", True)
    journal = Journal(journal_path(folder, "stage"))
    journal.model(folder.path, "text-classification", ["mlflow"])
    journal.status("FINISHED")
    journal.close()
    sender, client = Sender(config, "stage", folder, journal_path(folder, "stage")), _Client()
    sender.run_id, sender._client = "abc", client
    with caplog.at_level(logging.WARNING):
        assert sender.send()
    assert client.calls == ["get_run", "FINISHED"]
    assert "no such endpoint" in caplog.text


def test_what_the_server_refuses_is_left_out_and_all_else_is_sent(
    config: RunConfig, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(get_logger(), "warning", told.append)
    journal = Journal(journal_path(folder, "stage"))
    journal.params({"a": 1, "no?": 2, "b": 3})
    journal.tags({"a": "1", "long" * 100: "2"})
    for step in range(3):
        journal.metrics(step, {"loss": 1.0, "long" * 100: 2.0, "no?": 3.0, "accuracy": 4.0})
    journal.status("FINISHED")
    journal.close()
    sender = Sender(config, "stage", folder, journal_path(folder, "stage"))
    assert sender.send()
    assert sender.all_sent()
    run = MlflowClient(config.tracking.uri).get_run(str(sender.run_id))
    assert (run.data.params, run.info.status) == ({"a": "1", "b": "3"}, "FINISHED")
    assert (run.data.metrics, run.data.tags["a"]) == ({"loss": 1.0, "accuracy": 4.0}, "1")
    (message,) = told
    assert "MLflow refuses 'no?' of the run's params" in message


def test_the_points_of_a_deleted_run_wait_until_it_is_restored(config: RunConfig, folder: RunFolder) -> None:
    journal = Journal(journal_path(folder, "stage"))
    journal.tags({"a": "1"})
    sender = Sender(config, "stage", folder, journal_path(folder, "stage"))
    assert sender.send()
    client, run_id = MlflowClient(config.tracking.uri), str(sender.run_id)
    client.delete_run(run_id)
    journal.metrics(1, {"loss": 1.0})
    journal.close()
    assert not sender.send()
    client.restore_run(run_id)
    assert sender.send()
    assert client.get_run(run_id).data.metrics == {"loss": 1.0}
