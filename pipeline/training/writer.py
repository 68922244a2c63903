"""Writes checkpoints in a thread of every rank, while training goes on: at most one at a time.

How far the ranks are is asked over the loop's own group, so all of them learn of the end at the same step, and a rank
that is gone is noticed as at any other step. Price: the steps meanwhile share the machine with the writing.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.training.checkpoint import checkpoint_name
from pipeline.training.peers import Lost
from pipeline.training.save import CheckpointFiles, Content

RUNNING, LOST, FAILED, SAVED = range(4)
"""How a rank's part ended; of all ranks the smallest counts."""
POLL_SECONDS = 0.02
LEAVING_SECONDS = 3.0
"""A process that ends while its thread talks to others is aborted, and its exit code lost."""


@dataclass(frozen=True)
class Outcome:
    """How a save ended, on all ranks alike but for the problem's words."""

    content: Content
    path: Path
    saved: bool
    problem: str
    """Why not, in a sentence; empty where it is saved."""
    seconds: float


class Writer:
    """`start`, `ended` and `wait` are collective, and of the main thread."""

    def __init__(self, files: CheckpointFiles) -> None:
        self.files = files
        self.content: Content | None = None
        self._status, self._problem, self._began = SAVED, "", 0.0
        self._defect: BaseException | None = None
        self._lost = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a save is under way, or its end was not taken up yet; the same on every rank."""
        return self.content is not None

    def start(self, content: Content) -> None:
        """Copies the state and lets the thread write it. Only when not busy."""
        if self.busy:
            raise RuntimeError("one save at a time: wait for the one before")
        if self._lost:
            self.files.meet()
            self._lost = False
        self._began = time.monotonic()
        self.files.snapshot.take()
        self.content, self._status, self._problem = content, RUNNING, ""
        self._thread = threading.Thread(target=self._write, args=(content,), name="checkpoint", daemon=True)
        self._thread.start()

    def ended(self) -> Outcome | None:
        """How the save ended; None where it has not, or there is none. Each outcome is given once."""
        if self.content is None:
            return None
        if self._defect is not None:
            raise self._defect
        worst = self.files.engine.ranks.least(self._status)
        if worst == RUNNING:
            return None
        content, self.content, self._lost = self.content, None, worst == LOST
        path = self.files.folder.checkpoints / checkpoint_name(content.state.step)
        problem = "" if worst == SAVED else self._problem or "another rank could not write its part."
        return Outcome(content, path, worst == SAVED, problem, time.monotonic() - self._began)

    def wait(self) -> Outcome | None:
        """The same, once it has ended."""
        seen, ranks = (-1, -1), self.files.engine.ranks
        while self.content is not None:
            moved = self.files.moved, ranks.from_first(self.files.moved)  # the first one uploads while the others wait
            if seen != moved:  # a disk that does not answer is a hang, a slow one is not
                seen = moved
                ranks.watch.start(f"waits for the checkpoint of step {self.content.state.step:,} to be written")
            outcome = self.ended()
            if outcome is not None:
                return outcome
            time.sleep(POLL_SECONDS)
        return None

    def leave(self) -> None:
        """For an end that the other ranks do not share: gives the thread a moment, as they may be gone."""
        if self._thread is not None:
            self._thread.join(LEAVING_SECONDS)

    def _write(self, content: Content) -> None:
        try:
            self.files.write(content)
            self._status = SAVED
        except UserError as error:
            self._problem, self._status = str(error), FAILED
        except Lost as error:
            self._problem = f"a rank did not answer while the checkpoint was written ({error})."
            self._status = LOST
        except BaseException as error:  # ours: raised where the loop is
            self._defect = error
