"""Progress: plain lines in a log, with rate and time left; nothing on ranks that are not asked."""

import io
import logging
import sys

import pytest

from pipeline.base import progress
from pipeline.base.log import setup_logging
from pipeline.base.progress import Progress


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> io.StringIO:
    stream = io.StringIO()
    logger = logging.getLogger("pipeline")
    handler = logging.StreamHandler(stream)
    setup_logging(None)
    monkeypatch.setattr(logger, "handlers", [handler])
    return stream


def test_plain_lines_tell_rate_and_time_left(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 10.0, 20.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Progress(200, "steps", "pretrain") as bar:
        bar.advance(10)
        bar.advance(90, loss="1.5")
    told = lines.getvalue().splitlines()
    assert told[0] == "pretrain: 100 of 200 (50%) steps, 10.0 steps/s, 00:10 left, loss 1.5"


def test_a_resumed_count_does_not_inflate_the_rate(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = Progress(None, "steps", "pretrain", start=1000)
    bar.advance(20)
    assert lines.getvalue().splitlines()[0] == "pretrain: 1,020 steps, 2.0 steps/s"


def test_silent_where_not_active(lines: io.StringIO) -> None:
    with Progress(2, "steps", "pretrain", active=False) as bar:
        bar.advance(2)
    assert lines.getvalue() == ""


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, lines: io.StringIO) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(4, "steps", "pretrain") as bar:
        bar.advance(4, loss="2.0")
    assert "pretrain" in terminal.getvalue()
    assert lines.getvalue() == ""
