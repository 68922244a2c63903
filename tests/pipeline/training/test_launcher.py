"""Ranks notice when the deepspeed launcher is gone, and only then."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.launcher import LauncherWatch

ROOT = Path(__file__).resolve().parents[3]

RANK = """
import sys, time
from pipeline.training.launcher import LauncherWatch
watch = LauncherWatch()
print("started", watch.gone(), flush=True)
sys.stdin.readline()
time.sleep(0.2)
print("gone", watch.gone(), flush=True)
"""
AGENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); input()"
LAUNCHER = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])  # {name}"
OUTER = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"


def seen_by_the_rank(name: str) -> list[str]:
    """What a rank prints whose launcher's parent is killed between its two lines."""
    command = [sys.executable, "-c", OUTER, LAUNCHER.format(name=name), RANK]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdin is not None
        assert outer.stdout is not None
        first = outer.stdout.readline().strip()
        outer.kill()
        outer.wait()
        outer.stdin.write("\n")
        outer.stdin.flush()
        return [first, outer.stdout.readline().strip()]


def test_the_death_of_deepspeeds_launcher_is_noticed() -> None:
    assert seen_by_the_rank("deepspeed.launcher.launch") == ["started False", "gone True"]


def test_the_death_of_torchs_agent_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the parent itself; what started it may come and go."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "pretrain")
    assert seen_by_the_rank("torch.distributed.run") == ["started False", "gone False"]
    rank = RANK.replace("sys.stdin.readline()", "time.sleep(1)")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen([sys.executable, "-c", AGENT, rank], **pipes) as agent:
        assert agent.stdout.readline() == "started False\n"
        agent.kill()
        assert agent.stdout.readline() == "gone True\n"


def test_a_launcher_that_ended_before_the_rank_looked() -> None:
    assert LauncherWatch({"CROSS_SIZE": "1"}).gone()


def test_other_launchers_are_not_watched() -> None:
    assert seen_by_the_rank("mpirun") == ["started False", "gone False"]
    assert not LauncherWatch({}).gone()
