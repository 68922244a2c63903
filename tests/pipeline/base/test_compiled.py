"""Compiled loops: as Python's own, made anew when a file beside them changes, and kept only where they can be."""

import errno
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from pipeline.base.compiled import _place, compiled

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


def more(number: int) -> int:
    return number + 1


def test_without_a_place_to_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    _place.cache_clear()
    assert compiled(more)(2) == 3
    _place.cache_clear()


def test_beside_a_source_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "loops.py").write_text("STEP = 1")
    (tmp_path / "program" / "__pycache__").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    _place.cache_clear()
    first = _place(tmp_path / "program")
    assert first is not None
    assert first.parent == tmp_path / "home" / "electra"
    (tmp_path / "program" / "loops.py").write_text("STEP = 2")
    _place.cache_clear()
    assert _place(tmp_path / "program") != first


def test_a_full_disk_costs_the_keeping_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", full)
    _place.cache_clear()
    assert compiled(more)(2) == 3
    _place.cache_clear()
