"""Journals, tracking.json and metrics.jsonl with anything in them: what is sound is used, the rest is passed over."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.config import load_config
from pipeline.base.journal import STATUSES, Journal, read_journal
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking_push import _parents_first, _stages
from pipeline.base.tracking_sender import Sender, journal_path, whole_address
from pipeline.training.metrics_file import cut_metrics

STRANGE: list[Any] = [
    None,
    -1,
    2**64,
    10**400,
    1e400,
    "",
    "../x",
    [],
    {},
    {"a": None},
    {"a": [1]},
    {"a": 10**400},
    {1: 2},
    True,
    ["x"],
    "RUNNING\n",
    "\ud800",
]
LINES: list[dict[str, Any]] = [
    {"kind": "metrics", "step": 3, "time": 1_700_000_000_000, "values": {"train/loss": 0.5}},
    {"kind": "params", "values": {"a": "1"}},
    {"kind": "tags", "values": {"a": "1"}},
    {"kind": "artifact", "path": "/nowhere"},
    {"kind": "model", "path": "/nowhere", "task": "x", "requirements": [], "pairs": False},
    {"kind": "status", "status": "RUNNING"},
]


def hostile_lines() -> Iterator[bytes]:
    for line in LINES:
        for key in line:
            yield json.dumps({name: value for name, value in line.items() if name != key}).encode()
            for value in STRANGE:
                yield json.dumps(copy.deepcopy(line) | {key: value}).encode()
    yield from (b"", b"{", b"null", b"3", b"[" * 100_000, b'{"kind":' * 50_000, b"\xff\xfe", b"\0" * 100)


class Server:
    """Takes what fits MLflow's types, and nothing else."""

    def __init__(self) -> None:
        self.points: list[tuple[str, int]] = []
        self.statuses: list[str] = []

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        for metric in metrics:
            assert isinstance(metric.value, float)
            assert 0 <= metric.step < 2**63
            assert 0 <= metric.timestamp < 2**63
            self.points.append((metric.key, metric.step))
        assert all(isinstance(item.key, str) and isinstance(item.value, str) for item in (*params, *tags))

    def get_run(self, run_id: str) -> Any:
        return type("Run", (), {"data": type("Data", (), {"params": {}})})

    def log_artifact(self, run_id: str, path: str) -> None:
        """A file that is there is taken."""

    def update_run(self, run_id: str, status: str) -> None:
        self.statuses.append(status)

    set_terminated = update_run


def test_a_journal_with_anything_in_it_is_sent_as_far_as_it_is_sound(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    path = journal_path(folder, "pretrain")
    path.parent.mkdir()
    good = json.dumps(LINES[0] | {"step": 7}).encode()
    path.write_bytes(b"\n".join([good, *hostile_lines(), good.replace(b"7", b"8", 1)]) + b"\n")
    journal = Journal(path, once=True)
    journal.metrics(7, {"train/loss": 1.0})
    journal.metrics(9, {"train/loss": 1.0})
    journal.close()
    sender, server = Sender(load_config(None), "pretrain", folder, path), Server()
    sender.run_id, sender._client = "abc", server
    assert sender.send(), sender.failure
    assert sender.all_sent()
    sent = [step for key, step in server.points if key == "train/loss" and step in (7, 8, 9)]
    assert sent == [7, 8, 9]
    assert set(server.statuses) <= set(STATUSES)
    assert {entry["kind"] for entry in read_journal(path)} == {"metrics", "params", "tags", "model"}


@pytest.mark.parametrize("key", ["run_id", "sent", "token", "parent", "uri", "experiment", "run_name"])
def test_tracking_json_with_anything_in_it(tmp_path: Path, key: str) -> None:
    folder = RunFolder(tmp_path)
    journal = Journal(journal_path(folder, "pretrain"))
    journal.metrics(1, {"x": 0.5})
    journal.close()
    size = journal_path(folder, "pretrain").stat().st_size
    for value in (*STRANGE, 3, size - 1, size + 1, size):
        folder.tracking.write_text(json.dumps({"pretrain": {"run_id": "abc", "token": "t", "sent": 0} | {key: value}}))
        sender = Sender(load_config(None), "pretrain", folder, journal_path(folder, "pretrain"))
        assert sender.sent in (0, size)  # only where a line begins
        assert sender.run_id is None or isinstance(sender.run_id, str)
        assert _parents_first(_stages(folder)) == ["pretrain"]


def test_parents_in_a_circle(tmp_path: Path) -> None:
    assert sorted(_parents_first({"a": {"parent": "b"}, "b": {"parent": "a"}})) == ["a", "b"]
    assert _parents_first({"c": {"parent": "b"}, "a": {}, "b": {"parent": "a"}}) == ["a", "b", "c"]


def test_metrics_with_anything_in_them_are_cut(tmp_path: Path) -> None:
    path, draw = tmp_path / "metrics.jsonl", random.Random(0)
    good = [json.dumps({"step": step, "x": 0.5}).encode() for step in (1, 2)]
    path.write_bytes(b"\n".join([good[0], *hostile_lines(), b'{"step": 1' + b"0" * 400 + b"}", good[1]]) + b"\n")
    cut_metrics(path, 3)
    kept = path.read_bytes().splitlines()
    assert (kept[0], kept[-1]) == (good[0], good[1])
    assert all(json.loads(line)["step"] <= 3 for line in kept)
    path.write_bytes(draw.randbytes(10_000))
    cut_metrics(path, 3)


def test_an_address_as_it_was_written_down_is_one_without_credentials() -> None:
    assert whole_address("https://***@host:5000/x") == "https://host:5000/x"
    assert whole_address("postgresql://***@host/db?***") == "postgresql://host/db"
