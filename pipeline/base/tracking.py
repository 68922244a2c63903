"""MLflow tracking that never stops the work: calls append to a journal on disk, a thread sends it on.

While the server is away the journal grows, and is sent when it answers again, by the next start of the stage, or by
`python -m pipeline.tracking push`. One MLflow run per (stage, run folder): a restarted stage goes on in the run that it
had. Price: the thread fsyncs the journal before it sends, at most every SEND_SECONDS.
"""

import logging
import os
import threading
from types import TracebackType

from pipeline.base.config import RunConfig, flatten
from pipeline.base.errors import Preempted
from pipeline.base.journal import Journal
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking_anew import EARLIER, earlier_senders, set_aside
from pipeline.base.tracking_sender import Sender, journal_path, read_state

START_SECONDS = 30.0
SEND_SECONDS = 2.0
RETRY_SECONDS = 30.0
FINISH_SECONDS = 60.0
MODEL_SECONDS = 600.0
"""Longest wait at the end where a model is among what waits."""
ONCE = "pretrain"
"""The stage that passes through steps again, from its last checkpoint on: the first point of a step is kept."""


def start_run(
    config: RunConfig,
    stage: str,
    folder: RunFolder,
    parents: dict[str, str],
    *,
    active: bool = True,
    parent: "Tracker | None" = None,
    anew: bool = False,
) -> "Tracker":
    """The stage's MLflow run, new or resumed, with the config as parameters and `parents` (digests, run ids) as tags.

    With active=False (every rank but 0) all calls do nothing. With `parent` the run is nested under that tracker's.
    anew: the stage begins at step 0; where the run that it had has points, it gets a new one.
    """
    earlier = set_aside(folder, stage) if active and anew else None
    tracker = Tracker(config, stage, folder, active=active, parent=parent)
    if active:
        tracker.params(flatten(config.written()))
        tracker.tags({"stage": stage, "run_dir": str(folder.path.resolve())} | parents)
        if earlier:
            tracker.tags({EARLIER: earlier})
        tracker.begin()
    return tracker


def read_run_id(folder: RunFolder, stage: str) -> str | None:
    """The MLflow run id of a stage of this run folder, None where it has none."""
    return read_state(folder).get(stage, {}).get("run_id")


def status_of(kind: type[BaseException] | None) -> str:
    """How a run that ended with this exception is marked."""
    stopped = kind is not None and issubclass(kind, Preempted | KeyboardInterrupt)
    return "FINISHED" if kind is None else "KILLED" if stopped else "FAILED"


def waits(folder: RunFolder) -> str:
    """What to say where a server has not taken everything."""
    return (
        f"MLflow does not answer: its points wait in {folder.log} for the next start, or for "
        f"python -m pipeline.tracking push {folder.path}"
    )


class Tracker(Journal):
    """One stage's journal (run_dir/log/tracking-STAGE.jsonl) and the thread that sends it."""

    sender: Sender

    def __init__(
        self, config: RunConfig, stage: str, folder: RunFolder, *, active: bool, parent: "Tracker | None" = None
    ) -> None:
        super().__init__(journal_path(folder, stage) if active else None, once=stage == ONCE)
        self.stage, self.folder, self.active = stage, folder, active
        self.run_id: str | None = None
        self._finished = False
        if not active:
            return
        self.run_id = read_run_id(folder, stage)
        above = parent.sender if parent is not None else None
        self.sender = Sender(config, stage, folder, journal_path(folder, stage), above)
        self._earlier = earlier_senders(config, folder, stage)
        self._wake, self._stop, self._first_try = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send_until_stopped, name="mlflow", daemon=True)

    def begin(self) -> None:
        """Opens the run on the server; waits a bounded time for its id."""
        import_mlflow()
        self.status("RUNNING")
        self._thread.start()
        self._first_try.wait(START_SECONDS)
        self.run_id = self.sender.run_id

    def finish(self, status: str, seconds: float | None = None) -> None:
        """Ends the run as FINISHED, FAILED or KILLED, and waits so long at most for the journal to be sent."""
        if not self.active or self._finished:
            return
        self._finished = True
        self.status(status)
        self._stop.set()
        self._wake.set()
        if seconds is None:
            seconds = MODEL_SECONDS if self.has_model else FINISH_SECONDS
        self._thread.join(seconds)
        self.run_id = self.sender.run_id
        self.close()
        if self._thread.is_alive() or not all(one.all_sent() for one in (self.sender, *self._earlier)):
            get_logger().warning(waits(self.folder))

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(status_of(kind))

    def written(self) -> None:
        """There is something to send."""
        self._wake.set()

    def _send_until_stopped(self) -> None:
        while True:
            self._wake.clear()
            stopping = self._stop.is_set()
            self.sync()
            sent = self.sender.send()
            for one in self._earlier:
                one.send()
            self._first_try.set()
            if stopping:
                return
            self._stop.wait(SEND_SECONDS if sent else RETRY_SECONDS)
            if sent:
                self._wake.wait()


def import_mlflow() -> None:
    """Imports MLflow with short time-outs and without its chatter; done once, in the main thread."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow.tracking  # noqa: F401

    for name in ("alembic", "mlflow", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
