"""Lines on a disk that is full for a while: whole, in order, and none lost; what a kill cut off is gone."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.base import lines as module
from pipeline.base.errors import UserError
from pipeline.base.journal import Journal
from pipeline.base.lines import Lines
from pipeline.training.metrics_file import all_metrics, append_metrics, cut_metrics


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: a write is cut off there, then refused, as by a disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_wait_for_room(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = Lines(path)
    wanted = [f"line {number} " + "x" * (number % 7) for number in range(60)]
    for text in wanted[:10]:
        assert lines.add(text)
    with full_at(path.stat().st_size + 25):  # two lines fit, and half a third one
        written = [lines.add(text) for text in wanted[10:40]]
        assert written == [True, True, *[False] * 28]
        assert path.read_text().splitlines() == wanted[:12]  # no half line
        assert lines.waiting == 28
    for text in wanted[40:]:
        assert lines.add(text)
    assert path.read_text().splitlines() == wanted
    lines.sync()


@pytest.mark.parametrize("half", ["h", "x" * 200_000])
def test_a_half_line_is_cut_off(tmp_path: Path, half: str) -> None:
    path = tmp_path / "lines"
    path.write_text(f"one\n{half}")
    assert Lines(path).add("two")
    assert path.read_text() == "one\ntwo\n"
    path.write_text(half)
    assert Lines(path).add("two")
    assert path.read_text() == "two\n"


def test_what_waits_is_bounded_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    lines = Lines(tmp_path / "lines")
    with full_at(0):
        for number in range(8):
            lines.add(str(number))
    assert lines.write()
    assert (lines.path.read_text().split(), lines.lost) == (["3", "4", "5", "6", "7"], 3)


def test_what_will_not_pass_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Lines(tmp_path / "gone" / "lines").add("x")
    with pytest.raises(UserError, match="cannot write"):
        append_metrics(tmp_path / "gone" / "metrics.jsonl", 1, {})


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_metrics_on_a_full_disk_wait_and_are_cut_with_the_others(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, 1, {"x": 0.5})
    with full_at(path.stat().st_size):
        for step in range(2, 6):
            append_metrics(path, step, {"x": 0.5})
        cut_metrics(path, 4)  # back to the checkpoint of step 4
    append_metrics(path, 5, {"x": 0.25})
    assert steps(path) == [1, 2, 3, 4, 5]
    with all_metrics(path), full_at(path.stat().st_size):
        append_metrics(path, 6, {"x": 0.25})
    assert steps(path) == [1, 2, 3, 4, 5, 6]


def test_a_journal_on_a_full_disk_keeps_its_points(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log" / "tracking-pretrain.jsonl", once=True)
    journal.metrics(1, {"x": 0.5})
    assert journal.path is not None
    with full_at(journal.path.stat().st_size):
        for step in range(1, 5):
            journal.metrics(step, {"x": 0.5})
        journal.status("KILLED")
    journal.close()
    entries = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [entry.get("step", entry.get("status")) for entry in entries] == [1, 2, 3, 4, "KILLED"]
