"""Sends a stage's journal to MLflow, from the first line that has not been sent; tracking.json remembers how far.

Several processes may keep runs in one tracking.json (fine-tuning beside an export): changes of it are made one at a
time, under a lock. A line that was being sent when the process was killed, or whose answer was lost, is sent again:
MLflow's stores drop a point of the same time, step and value. A run is made with a tag of its own, written to
tracking.json before: one whose creation was not answered is found again.
"""

import fcntl
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError, first_line
from pipeline.base.files import read_json, write_json
from pipeline.base.journal import read_line
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.stores.faults import shown
from pipeline.base.tracking_model import send_model

MOST_POINTS = 500
"""Of metrics in one request; MLflow takes 1000."""
MOST_LINES = 100
TOKEN = "electra.token"
"""The tag by which a run is found again."""
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


def journal_path(folder: RunFolder, stage: str) -> Path:
    """Where a stage's journal lies; a "/" in the stage's name becomes a "+"."""
    return folder.log / f"tracking-{stage.replace('/', '+')}.jsonl"


def rename_stage(folder: RunFolder, stage: str, name: str) -> None:
    """What tracking.json knows of a stage it knows of `name` from here on."""
    with _locked(folder):
        state = read_state(folder)
        if stage in state:
            state[name] = state.pop(stage)
            write_json(folder.tracking, state)


def as_remembered(config: RunConfig, state: dict[str, Any], given: Collection[str] = ()) -> RunConfig:
    """The config with the stage's own address, experiment and name, but for what was given."""
    kept = {key: state[key] for key in ("uri", "experiment", "run_name") if isinstance(state.get(key), str)}
    own = {key: value for key, value in kept.items() if f"tracking.{key}" not in given}
    return config.model_copy(update={"tracking": config.tracking.model_copy(update=own)})


def whole_address(uri: str) -> str:
    """An SQLite file in the working folder by its whole path: MLflow keeps one store for an address in a process.

    An address as it was written down, without its user and password: MLflow takes them from the environment.
    """
    uri = uri.replace("://***@", "://").removesuffix("?***")
    file = uri.removeprefix("sqlite:///")
    return f"sqlite:///{Path(file).resolve()}" if file != uri and file != ":memory:" else uri


class Sender:
    """Sends journal lines from the first unsent one; remembers run id and position in tracking.json."""

    def __init__(
        self, config: RunConfig, stage: str, folder: RunFolder, journal: Path, parent: "Sender | None" = None
    ) -> None:
        self.config, self.stage, self.folder, self.journal, self.parent = config, stage, folder, journal, parent
        state = read_state(folder).get(stage, {})
        self.run_id: str | None = _text(state, "run_id")
        self.token = _text(state, "token") or secrets.token_hex(16)
        self.sent = _line_start(journal, state.get("sent"))
        self.failure = ""
        """Why the last try failed."""
        self._remembered: dict[str, Any] = {}
        self._client: Any = None
        self._warned = self._has_refused = self._has_skipped = False

    def all_sent(self) -> bool:
        """Whether the server has all whole lines of the journal, or the journal is gone with its disk."""
        if not self.journal.exists() or self.sent >= self.journal.stat().st_size:
            return True
        with open(self.journal, "rb") as file:
            file.seek(self.sent)
            return b"\n" not in file.read()

    def send(self) -> bool:
        """Sends what waits. False (and one warning) when the server does not take it."""
        try:
            self._open()
            with open(self.journal, "rb") as file:
                file.seek(self.sent)
                for entries, length in _together(file):
                    if entries is None:
                        self._skip()
                    else:
                        self._send_entries(entries)
                    self.sent += length
            self._remember()
        except Exception as error:
            self.failure = f"MLflow at {shown(self.config.tracking.uri)} does not answer: {shown(first_line(error))}"
            if not self._warned and self.journal.exists():  # where its disk is gone, the stage tells it
                get_logger().warning(f"{self.failure}. Work goes on, points wait in {self.journal}")
            self._warned = True
            return False
        self._warned = False
        return True

    def _skip(self) -> None:
        if not self._has_skipped:
            get_logger().warning(f"{self.journal} has lines that cannot be read: they are not sent to MLflow")
        self._has_skipped = True

    def _remember(self) -> None:
        tracking = self.config.tracking
        entry = {
            "run_id": self.run_id,
            "uri": shown(whole_address(tracking.uri)),
            "experiment": tracking.experiment,
            "run_name": tracking.run_name,
            "parent": self.parent.stage if self.parent else None,
            "token": self.token,
            "sent": self.sent,
        }
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

        self._remember()
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
                self.run_id, self.sent, self.token = None, 0, secrets.token_hex(16)
                self._remember()
        if self.run_id is None:
            self.run_id = self._made_before(client, experiment_id) or self._make(client, experiment_id)
        self._client = client
        self._remember()

    def _made_before(self, client: Any, experiment_id: str) -> str | None:
        """The run that an earlier try has made, whose answer was lost."""
        found = client.search_runs([experiment_id], f"tags.`{TOKEN}` = '{self.token}'", order_by=["start_time ASC"])
        return str(found[0].info.run_id) if found else None

    def _make(self, client: Any, experiment_id: str) -> str:
        run_name = f"{self.config.tracking.run_name or self.folder.path.name}/{self.stage}"
        tags = {TOKEN: self.token} | ({"mlflow.parentRunId": self._parent_run()} if self.parent else {})
        made = str(client.create_run(experiment_id, run_name=run_name, tags=tags).info.run_id)
        first = self._made_before(client, experiment_id) or made
        if first != made:  # a slow server has made that of an earlier try meanwhile
            client.delete_run(made)
        return first

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
            if Path(entry["path"]).is_file():
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


def _together(file: IO[bytes]) -> Iterator[tuple[list[dict[str, Any]] | None, int]]:
    """Whole lines from where `file` stands, neighbouring points together, and how many bytes they take.

    None for a line that cannot be read.
    """
    waiting: list[dict[str, Any]] = []
    length = 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        entry = read_line(line)
        alone = entry is None or entry["kind"] != "metrics"
        if waiting and (alone or len(waiting) >= MOST_LINES):
            yield waiting, length
            waiting, length = [], 0
        if entry is None or alone:
            yield None if entry is None else [entry], len(line)
        else:
            waiting, length = [*waiting, entry], length + len(line)
    if waiting:
        yield waiting, length


def _text(state: dict[str, Any], key: str) -> str | None:
    value = state.get(key)
    return value if isinstance(value, str) and value else None


def _line_start(journal: Path, sent: Any) -> int:
    """The place in the journal that tracking.json remembers; 0 where that is none at which a line begins."""
    if type(sent) is not int or sent <= 0 or not journal.exists() or sent > journal.stat().st_size:
        return 0
    with open(journal, "rb") as file:
        file.seek(sent - 1)
        return sent if file.read(1) == b"\n" else 0


@contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Waits until no other process changes tracking.json; the kernel frees the lock at any death."""
    descriptor = os.open(folder.path / ".tracking.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
