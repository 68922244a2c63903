"""Sends the journals of many MLflow runs from one thread, each nested under another: a sweep, its tasks, their seeds.

Who writes a journal may be another process, on another host, that sees the same file. Price: points arrive some seconds
after they were written.
"""

import threading
from types import TracebackType

from pipeline.base.config import RunConfig
from pipeline.base.journal import Journal
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import FINISH_SECONDS, MODEL_SECONDS, RETRY_SECONDS, import_mlflow, waits
from pipeline.base.tracking_sender import Sender, journal_path

POLL_SECONDS = 3.0


class Relay:
    """A context: within it journals are sent, at its end what is left of them, for a bounded time."""

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self.config, self.folder = config, folder
        self._senders: dict[str, Sender] = {}
        self._journals: list[Journal] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_until_stopped, name="mlflow", daemon=True)

    def add(self, stage: str, parent: str | None = None) -> None:
        """Sends the journal of `stage` too, once there is one; `parent`: the stage above it, which was added before."""
        above = self._senders[parent] if parent is not None else None
        self._senders[stage] = Sender(self.config, stage, self.folder, journal_path(self.folder, stage), above)

    def journal(self, stage: str) -> Journal:
        """This process's own handle on the journal of `stage`, closed at the end of the context."""
        journal = Journal(journal_path(self.folder, stage))
        self._journals.append(journal)
        return journal

    def __enter__(self) -> "Relay":
        import_mlflow()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for journal in self._journals:
            journal.close()
        self._stop.set()
        self._thread.join(MODEL_SECONDS if any(journal.has_model for journal in self._journals) else FINISH_SECONDS)
        waiting = [sender for sender in self._started() if not sender.all_sent()]
        if self._thread.is_alive() or waiting:
            get_logger().warning(waits(self.folder))

    def _started(self) -> list[Sender]:
        return [sender for sender in self._senders.values() if sender.journal.exists()]

    def _send_until_stopped(self) -> None:
        while True:
            stopping = self._stop.is_set()
            sent = True
            for sender in self._started():
                sent = sender.send()
                if not sent:
                    break  # the others have the same server
            if stopping:
                return
            self._stop.wait(POLL_SECONDS if sent else RETRY_SECONDS)
