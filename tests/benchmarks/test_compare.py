"""Two commits compared: mistakes end with 2 and one message; a tiny run leaves no work tree behind."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.compare import verdict

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "compare.sh"
TINY = ["layers=1", "hidden_size=64", "heads=1", "ffn_size=64", "embedding_size=32"]

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout: two commits are compared")


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True)


def test_slower_is_beyond_the_margin_and_the_spread() -> None:
    assert verdict([1.0, 1.02, 0.98, 1.01], 0.05)[1] == 0
    assert verdict([1.2, 1.21, 1.19, 1.2], 0.05)[1] == 1
    assert verdict([0.9, 1.2, 1.0, 1.3], 0.05)[1] == 0  # slower in the median, but not in the lower quartile
    assert "1.200 in the median" in verdict([1.2, 1.2, 1.2], 0.05)[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-commit", "HEAD"], "'no-such-commit' is not a commit"),
        (["HEAD", "--rounds=3", "HEAD^{tree}"], "is not a commit"),
        (["HEAD", "HEAD", "--rounds", "1"], "at least 2 rounds"),
        (["HEAD", "HEAD", "--margin", "-1"], "a margin of 0 or more"),
    ],
)
def test_mistakes_end_with_2_and_one_message(arguments: list[str], said: str) -> None:
    ended = compare(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_tiny_run_prints_a_ratio_and_leaves_no_work_tree() -> None:
    before = subprocess.run(["git", "-C", str(ROOT), "worktree", "list"], capture_output=True, text=True).stdout
    changes = [f"model.{size}" for size in TINY]
    ended = compare("HEAD", "HEAD", "--rounds", "2", "--batch", "1", "--seq", "16", "--margin", "100", *changes)
    assert ended.returncode == 0, ended.stderr
    assert "B / A: " in ended.stdout
    after = subprocess.run(["git", "-C", str(ROOT), "worktree", "list"], capture_output=True, text=True).stdout
    assert after == before
