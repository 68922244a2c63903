"""Fixtures: a made data set, and a way to run `python -m pipeline.shards` in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.shards.command import main
from tests.pipeline.shards.text_dataset import TextDataset, make_text_dataset


@pytest.fixture
def made(tmp_path: Path) -> TextDataset:
    return make_text_dataset(tmp_path / "run")


class Ran:
    """Runs a command: its exit code, output and messages."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        capsys.readouterr()
        self.code = main([str(argument) for argument in arguments])
        self.out, self.err = capsys.readouterr()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def told(self) -> str:
        """The one message, without lines of progress."""
        assert self.code == 2
        assert self.out == ""
        start = self.err.index("shards ")
        assert all(line.startswith(("verify: ", "stat: ")) for line in self.err[:start].splitlines())
        return self.err[start:]


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: Ran(capsys, *arguments)


def flip(path: Path, place: int) -> None:
    """Turns a bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
