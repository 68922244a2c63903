"""Compiled loops: as Python's own, made anew when a file beside them changes, and kept only where they can be."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    assert len(kept) == 1, "what the first has made is removed"
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


def test_code_of_older_sources_goes_when_new_is_kept_also_under_a_process_that_uses_it(tmp_path: Path) -> None:
    source = tmp_path / "loops.py"
    source.write_text("def more(number):\n    return number + 1\n")
    names: dict[str, Any] = {}
    exec(compile(source.read_text(), source, "exec"), names)
    used = compiled(names["more"])
    assert used(2) == 3
    first = _place(tmp_path)
    assert first is not None
    assert list(first.glob("*/*.nbi"))
    (tmp_path / "__pycache__" / "loops.cpython-311.pyc").touch()
    source.write_text("STEP = 2")
    _place.cache_clear()
    second = _place(tmp_path)
    assert second is not None
    assert [path.name for path in second.parent.iterdir() if path.is_dir()] == [second.name]
    assert (second.parent / "loops.cpython-311.pyc").exists()
    assert used(5) == 6
    assert used(0.5) == 1.5
    _place.cache_clear()


def test_in_a_shared_place_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "shared"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "loops.py").write_text(name)
        _place.cache_clear()
        _place(tmp_path / name)
    _place.cache_clear()
    assert len(list((tmp_path / "shared").iterdir())) == 2


def test_a_full_disk_costs_the_keeping_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", full)
    _place.cache_clear()
    assert compiled(more)(2) == 3
    _place.cache_clear()
