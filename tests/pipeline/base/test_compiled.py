"""Compiled loops: as Python's own, and made anew when a file beside them changes, or nowhere can be kept."""

import subprocess
import sys
from pathlib import Path

import numba
import pytest

from pipeline.base.compiled import compiled

LOOPS = """
from numbers_beside import STEP
from pipeline.base.compiled import compiled

@compiled
def total(count):
    found = 0
    for number in range(count):
        found += STEP * number
    return found

print(total(5))
"""


def run(folder: Path) -> int:
    return int(subprocess.run([sys.executable, "loops.py"], cwd=folder, check=True, capture_output=True).stdout)


@pytest.mark.slow
def test_a_number_from_another_file_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    (tmp_path / "loops.py").write_text(LOOPS)
    for step in (1, 7):
        (tmp_path / "numbers_beside.py").write_text(f"STEP = {step}")
        assert run(tmp_path) == step * sum(range(5))
    kept = sorted(tmp_path.glob("__pycache__/loops-*/*/*.nbi"))
    assert len(kept) == 2
    times = [file.stat().st_mtime_ns for file in kept]
    assert run(tmp_path) == 70
    assert [file.stat().st_mtime_ns for file in kept] == times, "the third run takes what the second has made"


def test_without_a_place_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    folder = numba.config.CACHE_DIR

    def more(number: int) -> int:
        return number + 1

    assert compiled(more)(2) == 3
    assert folder == numba.config.CACHE_DIR
