"""MLflow tracking that never stops the work: calls append to a journal on disk, a thread sends it on.

While the server is away the journal grows, and is sent when it answers again, or by the next start of the stage. One
MLflow run per (stage, run folder): a restarted stage goes on in the run that it had.
"""

import contextlib
import json
import logging
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.base.config import RunConfig, flatten
from pipeline.base.errors import Preempted, UserError
from pipeline.base.files import read_json, told_plainly, write_json
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder

START_SECONDS = 30.0
SEND_SECONDS = 2.0
RETRY_SECONDS = 30.0
FINISH_SECONDS = 60.0


def start_run(
    config: RunConfig, stage: str, folder: RunFolder, parents: dict[str, str], *, active: bool = True
) -> "Tracker":
    """The stage's MLflow run, new or resumed, with the config as parameters and `parents` (digests, run ids) as tags.

    With active=False (every rank but 0) all calls do nothing.
    """
    tracker = Tracker(config, stage, folder, active=active)
    if active:
        tracker.params(flatten(config.to_dict()))
        tracker.tags({"stage": stage, "run_dir": str(folder.path.resolve())} | parents)
        tracker.begin()
    return tracker


def read_run_id(folder: RunFolder, stage: str) -> str | None:
    """The MLflow run id of a stage of this run folder, None where it has none."""
    return _read_state(folder).get(stage, {}).get("run_id")


def _read_state(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """tracking.json by stage. A damaged one counts as none: the next runs are new ones, but the work goes on."""
    try:
        state = read_json(folder.tracking) if folder.tracking.exists() else {}
    except UserError as error:
        get_logger().warning(f"MLflow runs of earlier stages are not known: {error}")
        return {}
    return {k: v for k, v in state.items() if isinstance(v, dict)} if isinstance(state, dict) else {}


class Tracker:
    """One stage's journal (run_dir/log/tracking-STAGE.jsonl) and the thread that sends it."""

    def __init__(self, config: RunConfig, stage: str, folder: RunFolder, *, active: bool) -> None:
        self.stage, self.folder, self.active = stage, folder, active
        self.run_id: str | None = None
        self._finished = self._journal_broken = False
        if not active:
            return
        with told_plainly(folder.log):
            folder.log.mkdir(parents=True, exist_ok=True)
        self.run_id = read_run_id(folder, stage)
        self._journal_path = folder.log / f"tracking-{stage}.jsonl"
        self._journal = open(self._journal_path, "a", encoding="utf-8")  # noqa: SIM115 - for the life of the tracker
        self._sender = _Sender(config, stage, folder, self._journal_path)
        self._wake, self._stop, self._first_try = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send_until_stopped, name="mlflow", daemon=True)

    def begin(self) -> None:
        """Opens the run on the server; waits a bounded time for its id."""
        _import_mlflow()
        self._write({"kind": "status", "status": "RUNNING"})
        self._thread.start()
        self._first_try.wait(START_SECONDS)
        self.run_id = self._sender.run_id

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Points at a step."""
        self._write({"kind": "metrics", "step": step, "time": int(time.time() * 1000), "values": values})

    def params(self, values: dict[str, Any]) -> None:
        """Parameters; MLflow never changes one that is set, so a value changed on resume becomes a tag."""
        self._write({"kind": "params", "values": {key: _shown(value) for key, value in values.items()}})

    def tags(self, values: dict[str, str]) -> None:
        """Tags of the run."""
        self._write({"kind": "tags", "values": {key: str(value) for key, value in values.items()}})

    def artifact(self, path: Path) -> None:
        """A small file to keep with the run."""
        self._write({"kind": "artifact", "path": str(Path(path).resolve())})

    def finish(self, status: str) -> None:
        """Ends the run as FINISHED, FAILED or KILLED, and waits a bounded time for the journal to be sent."""
        if not self.active or self._finished:
            return
        self._finished = True
        self._write({"kind": "status", "status": status})
        self._stop.set()
        self._wake.set()
        self._thread.join(FINISH_SECONDS)
        self.run_id = self._sender.run_id
        with contextlib.suppress(OSError):  # what a full disk did not take
            self._journal.close()
        if self._thread.is_alive() or not self._sender.all_sent():
            get_logger().warning(f"MLflow does not answer: its points wait in {self._journal_path} for the next start.")

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = kind is not None and issubclass(kind, Preempted | KeyboardInterrupt)
        self.finish("FINISHED" if kind is None else "KILLED" if stopped else "FAILED")

    def _write(self, entry: dict[str, Any]) -> None:
        if not self.active:
            return
        try:
            self._journal.write(json.dumps(entry) + "\n")
            self._journal.flush()
        except OSError as error:  # a full disk is told by what the stage itself writes
            if not self._journal_broken:
                get_logger().warning(f"{self._journal_path} cannot be written, MLflow will miss points: {error}")
            self._journal_broken = True
        self._wake.set()

    def _send_until_stopped(self) -> None:
        while True:
            self._wake.clear()
            stopping = self._stop.is_set()
            sent = self._sender.send()
            self._first_try.set()
            if stopping:
                return
            self._stop.wait(SEND_SECONDS if sent else RETRY_SECONDS)
            if sent:
                self._wake.wait()


class _Sender:
    """Sends journal lines from the first unsent one; remembers run id and position in tracking.json."""

    def __init__(self, config: RunConfig, stage: str, folder: RunFolder, journal: Path) -> None:
        self.config, self.stage, self.folder, self.journal = config, stage, folder, journal
        state = _read_state(folder).get(stage, {})
        self.run_id: str | None = state.get("run_id")
        self.sent: int = state.get("sent", 0) if journal.exists() else 0
        self._client: Any = None
        self._warned = False

    def all_sent(self) -> bool:
        """Whether the server has the whole journal."""
        return self.sent >= self.journal.stat().st_size

    def send(self) -> bool:
        """Sends what waits. False (and one warning) when the server does not take it."""
        try:
            self._open()
            with open(self.journal, "rb") as file:
                file.seek(self.sent)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._send_entry(json.loads(line))
                    self.sent += len(line)
            self._remember()
        except Exception as error:
            if not self._warned:
                get_logger().warning(f"MLflow at {self.config.tracking.uri} does not answer, work goes on: {error}")
            self._warned = True
            return False
        self._warned = False
        return True

    def _remember(self) -> None:
        entry = {"run_id": self.run_id, "uri": self.config.tracking.uri, "sent": self.sent}
        state = _read_state(self.folder)
        if state.get(self.stage) != entry:
            write_json(self.folder.tracking, state | {self.stage: entry})

    def _open(self) -> None:
        if self._client is not None:
            return
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        client = MlflowClient(self.config.tracking.uri)
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
            self.run_id = client.create_run(experiment_id, run_name=run_name).info.run_id
        self._client = client
        self._remember()

    def _send_entry(self, entry: dict[str, Any]) -> None:
        from mlflow.entities import Metric, RunTag

        if entry["kind"] == "metrics":
            points = [Metric(k, float(v), entry["time"], entry["step"]) for k, v in entry["values"].items()]
            self._client.log_batch(self.run_id, metrics=points)
        elif entry["kind"] == "params":
            self._send_params(entry["values"])
        elif entry["kind"] == "tags":
            self._client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in entry["values"].items()])
        elif entry["kind"] == "artifact":
            if Path(entry["path"]).exists():
                self._client.log_artifact(self.run_id, entry["path"])
        elif entry["status"] == "RUNNING":
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            self._client.set_terminated(self.run_id, status=entry["status"])

    def _send_params(self, values: dict[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(self.run_id).data.params
        new = [Param(key, value) for key, value in values.items() if key not in known]
        for start in range(0, len(new), 100):
            self._client.log_batch(self.run_id, params=new[start : start + 100])
        changed = [RunTag(f"changed.{key}", value) for key, value in values.items() if known.get(key, value) != value]
        if changed:
            self._client.log_batch(self.run_id, tags=changed)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:6000]


def _import_mlflow() -> None:
    """Imports MLflow with short time-outs and without its chatter; done once, in the main thread."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow.tracking  # noqa: F401

    for name in ("alembic", "mlflow", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
