"""A thread a rank that sees to it that the process ends in time: the main thread may be stuck in a collective.

It hears signals (a stop with a deadline; the second one ends the process at once), and looks twice a second whether the
launcher is there, the other ranks beat, and anything has moved. What ends the process ends it with 75, one sentence and
the newest checkpoint as it is: files are written aside and renamed, so nothing half-written counts. A process whose
main thread keeps Python's lock for good is ended by faulthandler's own thread, with 1. Price: about 50 us a second.
"""

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from pipeline.base.config import RunConfig
from pipeline.base.errors import EXIT_PREEMPTED, PeersLost, first_line
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.signals import heard, read_numbers
from pipeline.training.launcher import LauncherWatch
from pipeline.training.peers import GOES_ON, Peers

TICK_SECONDS = 0.5
SAME_REQUEST_SECONDS = 1.0
"""Signals within that time are one request: a Ctrl-C reaches a rank from the terminal and again from its launcher."""
START_SECONDS = 1800.0
"""At least that long may parts of the start take, such as checking all shards, and a wait for a save."""
LAST_WORDS_SECONDS = 2.0
ARMED_TICKS = 10
ARMED_SECONDS = 60.0
"""At least that long does faulthandler wait: longer than a machine with too much to do keeps the thread from a tick."""


@dataclass(frozen=True)
class Limits:
    """In seconds."""

    stop: float = 25.0
    hang: float = 600.0
    peer: float = 15.0


class Watchdog:
    """What one rank's process watches. Inert until `watching`: then `beat` is recorded and nothing else happens."""

    def __init__(self, limits: Limits | None = None, log: Path | None = None, rank: int = 0) -> None:
        self.limits, self.log, self.rank = limits or Limits(), log, rank
        self.place = "the start"
        self.stop_asked = False
        self.peers: Peers | None = None
        self.lost: list[int] | None = None
        self.on_stop: list[Callable[[], None]] = []
        """Called once a stop is asked for."""
        self.last_words: list[Callable[[], None]] = []
        """Called before the process is ended from here, in a thread that is not waited for longer than a moment."""
        self._allowed, self._idle, self._moved = START_SECONDS, 0.0, True
        self._deadline: float | None = None
        self._first_signal = 0.0
        self._verdict = "stopped"
        self._leaving = False
        self._closed = threading.Event()

    def beat(self, place: str, seconds: float | None = None) -> None:
        """Something moves: the rank is at `place`, and may stay there for train.hang_timeout, or for `seconds`."""
        self.place, self._allowed, self._moved = place, seconds or self.limits.hang, True

    def start(self, place: str) -> None:
        """`beat` for a part that may take long, such as one of the start."""
        self.beat(place, max(START_SECONDS, self.limits.hang))

    @contextmanager
    def watching(self) -> Iterator["Watchdog"]:
        """While it holds, the thread runs. Signals are heard if this is the main thread."""
        main = threading.current_thread() is threading.main_thread()
        with heard() if main else _deaf() as pipe:
            launcher = LauncherWatch()
            thread = threading.Thread(target=self._watch, args=(pipe, launcher), name="watchdog", daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self._leave()
                thread.join()

    def ask_to_stop(self, why: str, seconds: float | None = None) -> None:
        """All ranks are to save and end, within train.stop_seconds. Any thread may call it, more than once."""
        if self.stop_asked or self._leaving:
            return
        self.stop_asked = True
        seconds = self.limits.stop if seconds is None else seconds
        self._end_at(seconds, f"not saved within {self.limits.stop:g} s (train.stop_seconds) after {why}; {GOES_ON}")
        for call in self.on_stop:
            call()

    def saved(self, text: str) -> None:
        """The state is on the disk: should the rest of a stop take too long, it ends with `text`."""
        self._verdict = text

    def lose(self, error: BaseException) -> PeersLost:
        """What to raise in place of a collective's error. Finds out who is gone; the process has to end soon."""
        peers, patience = self.peers, self.limits.peer
        self.lost = peers.blamed(patience) if peers is not None else []
        found = self.lost_peers(self.lost, error)
        self._end_at(self.limits.stop, str(found) if found.told else "")
        return found

    def lost_peers(self, lost: list[int], error: BaseException | None = None) -> PeersLost:
        """The sentence, told by one rank of each host."""
        peers, reason = self.peers, first_line(error) if error is not None else "no heartbeat"
        text = f"other ranks are gone; {GOES_ON}"
        if peers is not None:
            text = peers.sentence(lost, self.place, self.limits.peer)
        if self.rank:  # not shown on a console, but kept in the rank's log
            get_logger().error(f"{text} ({reason})")
        found = PeersLost(text)
        found.told = peers is None or peers.tells(lost)
        return found

    def leave(self, text: str = "") -> None:
        """From here on the other ranks may end without being missed: this one ends too, and says `text`."""
        self._leaving = True
        self._verdict = text or self._verdict

    def _leave(self) -> None:
        self.leave()
        self._closed.set()
        if self.peers is not None:
            self.peers.leave(self.lost or ())

    def _end_at(self, seconds: float, text: str) -> None:
        at = time.monotonic() + seconds
        if self._deadline is None or at < self._deadline or self.lost is not None:
            self._deadline, self._verdict = at, text

    def _watch(self, pipe: int | None, launcher: LauncherWatch) -> None:
        before, ticks, file = time.monotonic(), 0, None
        while not self._closed.is_set():
            if ticks % ARMED_TICKS == 0:
                file = self._arm(file)
            if pipe is None:
                self._closed.wait(TICK_SECONDS)
            elif select.select([pipe], [], [], TICK_SECONDS)[0]:
                self._hear(read_numbers(pipe))
            now = time.monotonic()
            self._look(launcher, min(now - before, 2 * TICK_SECONDS))
            before, ticks = now, ticks + 1
        faulthandler.cancel_dump_traceback_later()
        if file is not None:
            file.close()

    def _hear(self, numbers: bytes) -> None:
        now = time.monotonic()
        name = signal.Signals(numbers[0]).name if numbers else "a signal"
        if not self._first_signal:
            self._first_signal = now
            self.ask_to_stop(name)
        elif now - self._first_signal > SAME_REQUEST_SECONDS:
            self._end(self._verdict if self._leaving else f"ended at once by a second signal, {name}; {GOES_ON}")

    def _look(self, launcher: LauncherWatch, passed: float) -> None:
        """passed: seconds since the last look, of which a pause of the whole process counts little."""
        if launcher.gone():
            self.ask_to_stop("the launcher's end")
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._end(self._verdict)
        self._idle = 0.0 if self._moved else self._idle + passed
        self._moved = False
        hangs = self._idle > self._allowed and not self._leaving
        if self.peers is not None:
            self._look_at_peers(self.peers, hangs, passed)
        elif hangs:
            self._hang(None)

    def _look_at_peers(self, peers: Peers, hangs: bool, passed: float) -> None:
        peers.pass_time(passed)
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        peers.tell(place=self.place, stop=left if self.stop_asked else None, hangs=hangs)
        if self._leaving or self.lost is not None:
            return
        asked = [news.stop for news in peers.news if news.stop is not None and not news.left]
        if asked and not self.stop_asked:
            self.ask_to_stop("another rank was asked to stop", min(asked))
        if hangs or any(news.hangs and not news.left for news in peers.news):
            self._hang(peers)
        lost = peers.lost(self.limits.peer)
        if lost and any(not peers.dead(rank) for rank in lost):
            self._dump_stacks()
        elif lost:
            self._closed.wait(3 * TICK_SECONDS)  # the main thread's collective has failed by now, where it was in one
        if lost and not self._leaving and self.lost is None:
            found = self.lost_peers(lost)
            self.lost = lost
            self._end(str(found) if found.told else "")

    def _hang(self, peers: Peers | None) -> NoReturn:
        """Stacks of all threads, on every rank; then one sentence from one rank, and the end."""
        path = self._dump_stacks()
        where = f"rank {self.rank} at {self.place}"
        told = True
        if peers is not None:
            peers.tell(hangs=True, place=self.place)
            time.sleep(3 * peers.interval)  # the others learn of it and write theirs
            where = peers.places()
            told = self.rank == min(rank for rank, news in enumerate(peers.news) if not news.left or rank == self.rank)
            path = path and path.with_name("stacks-rank-*.txt")
        seconds = f"{self._allowed:g} s" if self._allowed == self.limits.hang else f"{self._allowed:g} s or more"
        stacks = f" (all threads' stacks: {path})" if path is not None else ""
        self._end(f"nothing has moved for {seconds}: {where}{stacks}; {GOES_ON}" if told else "")

    def _dump_stacks(self) -> Path | None:
        """run_dir/log/stacks-rank-N.txt, where every thread of this process is."""
        if self.log is None:
            return None
        path = self.log / f"stacks-rank-{self.rank}.txt"
        try:
            self.log.mkdir(parents=True, exist_ok=True)
            with path.open("w") as file:
                file.write(f"rank {self.rank}, process {os.getpid()}, {time.strftime('%F %T')}, at {self.place}\n\n")
                file.flush()
                faulthandler.dump_traceback(file=file, all_threads=True)
        except OSError:  # a full disk: the sentence is told all the same
            return None
        return path

    def _arm(self, file: IO[str] | None) -> IO[str] | None:
        """Has faulthandler's own thread write the stacks and end the process, unless this is called again in time."""
        if file is None and self.log is not None and self.log.is_dir():
            with suppress(OSError):
                file = (self.log / f"rank-{self.rank}.log").open("a")
        if file is not None:
            faulthandler.dump_traceback_later(max(ARMED_SECONDS, 2 * self._allowed), exit=True, file=file)
        return file

    def _end(self, text: str) -> NoReturn:
        """Ends the process, whatever the other threads are at."""
        words = threading.Thread(target=self._say, args=(text,), daemon=True)
        words.start()
        words.join(LAST_WORDS_SECONDS)
        os._exit(EXIT_PREEMPTED)

    def _say(self, text: str) -> None:
        if text:
            rank = f", rank {self.rank}" if self.rank else ""
            os.write(2, f"pretrain{rank}: {text}\n".encode())
        if self.peers is not None:
            self.peers.leave(self.lost or ())
        for call in self.last_words:
            with suppress(Exception):
                call()
        if self.rank:
            get_logger().error(text or "ended: another rank tells why")
        sys.stdout.flush()


def watchdog_of(config: RunConfig) -> Watchdog:
    """The watchdog of this rank of a pretraining run."""
    train = config.train
    limits = Limits(train.stop_seconds, train.hang_timeout, train.peer_timeout)
    return Watchdog(limits, RunFolder.of(config).log, int(os.environ.get("RANK", "0")))


@contextmanager
def _deaf() -> Iterator[None]:
    """In another thread than the main one no signal can be heard: whoever runs the stage there hears them."""
    yield None
