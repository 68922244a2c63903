"""Sends a stage's journal to MLflow, from the first line that has not been sent; tracking.json remembers how far.

Several processes may keep runs in one tracking.json (fine-tuning beside an export): changes of it are made one at a
time, under a lock. A line that was being sent when the process was killed is sent again.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError, first_line
from pipeline.base.files import read_json, write_json
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking_model import send_model

MOST_POINTS = 500
"""Of metrics in one request; MLflow takes 1000."""
MOST_LINES = 100
INVALID = "INVALID_PARAMETER_VALUE"
"""MLflow's word for what it will not take at another time either."""


def read_state(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """tracking.json by stage. A damaged one counts as none: the next runs are new ones, but the work goes on."""
    try:
        state = read_json(folder.tracking) if folder.tracking.exists() else {}
    except UserError as error:
        get_logger().warning(f"MLflow runs of earlier stages are not known: {error}")
        return {}
    return {k: v for k, v in state.items() if isinstance(v, dict)} if isinstance(state, dict) else {}


def whole_address(uri: str) -> str:
    """An SQLite file in the working folder by its whole path: MLflow keeps one store for an address in a process."""
    file = uri.removeprefix("sqlite:///")
    return f"sqlite:///{Path(file).resolve()}" if file != uri and file != ":memory:" else uri


class Sender:
    """Sends journal lines from the first unsent one; remembers run id and position in tracking.json."""

    def __init__(
        self, config: RunConfig, stage: str, folder: RunFolder, journal: Path, parent: "Sender | None" = None
    ) -> None:
        self.config, self.stage, self.folder, self.journal, self.parent = config, stage, folder, journal, parent
        state = read_state(folder).get(stage, {})
        self.run_id: str | None = state.get("run_id")
        self.sent: int = state.get("sent", 0) if journal.exists() else 0
        self._remembered: dict[str, Any] = {}
        self._client: Any = None
        self._warned = self._has_refused = False

    def all_sent(self) -> bool:
        """Whether the server has the whole journal, or the journal is gone with its disk."""
        return not self.journal.exists() or self.sent >= self.journal.stat().st_size

    def send(self) -> bool:
        """Sends what waits. False (and one warning) when the server does not take it."""
        try:
            self._open()
            with open(self.journal, "rb") as file:
                file.seek(self.sent)
                for entries, length in _together(file):
                    self._send_entries(entries)
                    self.sent += length
            self._remember()
        except Exception as error:
            if not self._warned and self.journal.exists():  # where its disk is gone, the stage tells it
                get_logger().warning(f"MLflow at {self.config.tracking.uri} does not answer, work goes on: {error}")
            self._warned = True
            return False
        self._warned = False
        return True

    def _remember(self) -> None:
        entry = {"run_id": self.run_id, "uri": self.config.tracking.uri, "sent": self.sent}
        if entry == self._remembered:
            return
        with _locked(self.folder):
            write_json(self.folder.tracking, read_state(self.folder) | {self.stage: entry})
        self._remembered = entry

    def _open(self) -> None:
        if self._client is not None:
            return
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        client = MlflowClient(whole_address(self.config.tracking.uri))
        name = self.config.tracking.experiment
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
        if self.run_id is not None:
            try:
                client.get_run(self.run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                self.run_id, self.sent = None, 0
        if self.run_id is None:
            run_name = f"{self.config.tracking.run_name or self.folder.path.name}/{self.stage}"
            tags = {"mlflow.parentRunId": self._parent_run()} if self.parent else {}
            self.run_id = client.create_run(experiment_id, run_name=run_name, tags=tags).info.run_id
        self._client = client
        self._remember()

    def _parent_run(self) -> str:
        """The id of the run that this one is nested under; it must have been opened before."""
        if self.parent is None or self.parent.run_id is None:
            raise ConnectionError("the run that this one belongs to is not open yet")
        return self.parent.run_id

    def _send_entries(self, entries: list[dict[str, Any]]) -> None:
        """Points of one kind: many "metrics", or one of anything else."""
        from mlflow.entities import Metric, RunTag

        entry = entries[0]
        if entry["kind"] == "metrics":
            points = [
                Metric(key, float(value), one["time"], one["step"])
                for one in entries
                for key, value in one["values"].items()
            ]
            for start in range(0, len(points), MOST_POINTS):
                self._log("metrics", points[start : start + MOST_POINTS])
        elif entry["kind"] == "params":
            self._send_params(entry["values"])
        elif entry["kind"] == "tags":
            self._log("tags", [RunTag(key, value) for key, value in entry["values"].items()])
        elif entry["kind"] == "artifact":
            if Path(entry["path"]).exists():
                self._client.log_artifact(self.run_id, entry["path"])
        elif entry["kind"] == "model":
            self._send_model(entry)
        elif entry["status"] == "RUNNING":
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            self._client.set_terminated(self.run_id, status=entry["status"])

    def _send_model(self, entry: dict[str, Any]) -> None:
        """A server that is there but does not take the model goes without: all that follows must not wait for it."""
        if not Path(entry["path"]).exists():
            return
        try:
            send_model(self._client, str(self.run_id), entry)
        except Exception as error:
            self._client.get_run(self.run_id)  # raises where the server is away: the model is sent later
            get_logger().warning(f"MLflow does not take the model {entry['path']}, which stays where it is: {error}")

    def _send_params(self, values: dict[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(self.run_id).data.params
        new = [Param(key, value) for key, value in values.items() if key not in known]
        for start in range(0, len(new), 100):
            self._log("params", new[start : start + 100])
        changed = [RunTag(f"changed.{key}", value) for key, value in values.items() if known.get(key, value) != value]
        if changed:
            self._log("tags", changed)

    def _log(self, kind: str, items: list[Any]) -> None:
        """A batch of "metrics", "params" or "tags"; what is invalid is left out, as nothing must wait for it."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(self.run_id, **{kind: items})
        except MlflowException as error:
            # Of a deleted run everything is "invalid": it may be restored, so its points wait.
            active = error.error_code == INVALID and self._client.get_run(self.run_id).info.lifecycle_stage == "active"
            if not active:
                raise
            if len(items) > 1:  # a batch is taken or refused as a whole
                self._log(kind, items[: len(items) // 2])
                self._log(kind, items[len(items) // 2 :])
            elif not self._has_refused:
                self._has_refused = True
                get_logger().warning(
                    f"MLflow refuses {items[0].key!r} of the run's {kind}; this, and what else it refuses as invalid, "
                    f"stays in {self.journal} alone: {first_line(error)}"
                )


def _together(file: IO[bytes]) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Whole lines from where `file` stands, neighbouring points together, and how many bytes they take."""
    waiting: list[dict[str, Any]] = []
    length = 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        entry = json.loads(line)
        if waiting and (entry["kind"] != "metrics" or len(waiting) >= MOST_LINES):
            yield waiting, length
            waiting, length = [], 0
        waiting, length = [*waiting, entry], length + len(line)
        if entry["kind"] != "metrics":
            yield waiting, length
            waiting, length = [], 0
    if waiting:
        yield waiting, length


@contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Waits until no other process changes tracking.json; the kernel frees the lock at any death."""
    descriptor = os.open(folder.path / ".tracking.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
