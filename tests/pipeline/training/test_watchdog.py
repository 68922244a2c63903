"""The watchdog ends the process by itself, whatever the main thread is at: each scene runs in a process of its own."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.base.errors import EXIT_PREEMPTED
from pipeline.base.files import lock_folder
from pipeline.base.signals import STOP_SIGNALS, heard, read_numbers
from pipeline.training import watchdog
from pipeline.training.watchdog import Limits, Watchdog

LONG = Limits(stop=60.0, hang=60.0, peer=60.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(watchdog, "SAME_REQUEST_SECONDS", 0.2)


def ended(scene: Callable[[], int], said: Path) -> tuple[int, str]:
    """Exit code of a process that plays the scene, and what it wrote to standard error."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        os._exit(scene())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text()


def stuck_for_good() -> int:
    threading.Event().wait(60)
    return 1


def signal_later(*numbers: int, after: float = 0.5) -> None:
    """To this process, each so long after the one before."""

    def send() -> None:
        for number in numbers:
            time.sleep(after)
            os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_asks_for_a_stop_and_the_run_may_end_by_itself(number: int, tmp_path: Path) -> None:
    def scene() -> int:
        with lock_folder(tmp_path) as lock, Watchdog(LONG).watching() as watch:
            watch.on_stop.append(lock.stopping)
            os.kill(os.getpid(), number)
            while not watch.stop_asked:
                time.sleep(0.01)
            return 0 if "which is stopping" in (tmp_path / ".lock").read_text() else 1

    assert ended(scene, tmp_path / "said") == (0, "")


def test_a_stop_has_a_deadline(tmp_path: Path) -> None:
    def scene() -> int:
        with Watchdog(Limits(stop=0.2)).watching():
            os.kill(os.getpid(), signal.SIGUSR1)
            return stuck_for_good()

    code, said = ended(scene, tmp_path / "said")
    assert code == EXIT_PREEMPTED
    assert said == (
        "pretrain: not saved within 0.2 s (train.stop_seconds) after SIGUSR1; the same command goes on from the newest "
        "checkpoint.\n"
    )


def test_past_the_deadline_what_is_saved_is_not_told_as_lost(tmp_path: Path) -> None:
    def scene() -> int:
        with Watchdog(Limits(stop=0.2)).watching() as watch:
            watch.ask_to_stop("a test")
            watch.saved("stopped; the same command goes on from step 7.")
            return stuck_for_good()

    said = "pretrain: stopped; the same command goes on from step 7.\n"
    assert ended(scene, tmp_path / "said") == (EXIT_PREEMPTED, said)


def test_a_second_signal_ends_at_once_but_two_at_a_time_are_one(tmp_path: Path) -> None:
    def scene() -> int:
        with Watchdog(LONG).watching() as watch:
            watch.last_words.append(lambda: print(os.write(2, b"last words\n")))
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            signal_later(signal.SIGTERM)
            return stuck_for_good()

    code, said = ended(scene, tmp_path / "said")
    assert code == EXIT_PREEMPTED
    assert "ended at once by a second signal, SIGTERM;" in said
    assert said.endswith("last words\n")


def test_a_hang_is_told_with_the_stacks_of_all_threads(tmp_path: Path) -> None:
    def scene() -> int:
        with Watchdog(Limits(hang=0.4), tmp_path / "log").watching() as watch:
            for _ in range(30):
                watch.beat("step 12: waits for data")
                time.sleep(0.05)
            return stuck_for_good()

    code, said = ended(scene, tmp_path / "said")
    assert code == EXIT_PREEMPTED
    assert re.match(r"pretrain: nothing has moved for 0.4 s: rank 0 at step 12: waits for data \(all threads' st", said)
    stacks = (tmp_path / "log" / "stacks-rank-0.txt").read_text()
    assert "in stuck_for_good" in stacks
    assert stacks.count("hread 0x") >= 2


def test_a_process_that_keeps_the_interpreter_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    def scene() -> int:
        (tmp_path / "log").mkdir()
        monkeypatch.setattr(watchdog, "START_SECONDS", 0.3)
        monkeypatch.setattr(watchdog, "ARMED_SECONDS", 0.3)
        with Watchdog(Limits(hang=0.3), tmp_path / "log").watching() as watch:
            watch.beat("step 1")
            time.sleep(0.4 * watchdog.ARMED_TICKS * watchdog.TICK_SECONDS)
            ctypes.PyDLL(None).sleep(60)  # a PyDLL does not let the other threads run
            return 2

    assert ended(scene, tmp_path / "said")[0] == 1
    assert "in scene" in (tmp_path / "log" / "rank-0.log").read_text()


def test_signals_before_the_stage_are_kept_for_it_and_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with heard() as early:
        os.kill(os.getpid(), signal.SIGTERM)
        with heard() as pipe:
            assert pipe == early
            assert list(read_numbers(pipe)) == [signal.SIGTERM]
            assert read_numbers(pipe) == b""
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
