"""A task in a process of its own: its result, what ends it, and that it does not outlive its worker."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.base.alone import Crashed, Killed, run_alone
from pipeline.base.errors import UserError
from tests.failing import noisy, troubled

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_result_is_what_the_function_gives_and_nothing_it_prints() -> None:
    assert run_alone(noisy, (4,)) == {"twice": 8}


@pytest.mark.parametrize("trouble", ["SIGKILL", "SIGTERM", "memory"])
def test_ended_from_outside(tmp_path: Path, trouble: str) -> None:
    name = "SIGTERM" if trouble == "SIGTERM" else "SIGKILL"
    with pytest.raises(Killed, match=f"^ended by {name}$"):
        run_alone(troubled, (str(tmp_path), 3, trouble, 3, 1))
    assert run_alone(troubled, (str(tmp_path), 3, trouble, 3, 1)) == 6


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("SIGSEGV", "the process broke down: SIGSEGV"),
        ("SIGABRT", "the process broke down: SIGABRT"),
        ("exit", "the process broke down: exit code 7"),
        ("raise", "ValueError: record 3 is odd"),
    ],
)
def test_broken_down_by_itself(tmp_path: Path, trouble: str, told: str) -> None:
    with pytest.raises(Crashed, match=f"^{told}"):
        run_alone(troubled, (str(tmp_path), 3, trouble, 3, 1))


def test_a_mistake_of_the_user_comes_through(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^line 5 of it$"):
        run_alone(troubled, (str(tmp_path), 3, "user", 3, 1))


def test_it_dies_with_its_worker(tmp_path: Path) -> None:
    code = "import sys; from tests.failing import waits; from pipeline.base.alone import run_alone; "
    command = [sys.executable, "-c", code + "run_alone(waits, (sys.argv[1],))", str(tmp_path / "pid")]
    with subprocess.Popen(command, cwd=ROOT) as worker:
        until = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        child = int((tmp_path / "pid").read_text())
        os.kill(child, 0)
        worker.send_signal(signal.SIGKILL)
    while Path(f"/proc/{child}").exists() and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
