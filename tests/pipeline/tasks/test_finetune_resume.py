"""Fine-tunings that end early: by a signal, a kill, or because dev gets no better."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import Preempted, UserError
from pipeline.base.files import lock_folder
from pipeline.base.journal import Journal
from pipeline.base.task_sections import FinetuneConfig
from pipeline.command import main
from pipeline.tasks.families.classification import Classification
from pipeline.tasks.job import fine_tune, never
from pipeline.tasks.loop import Course
from pipeline.tasks.recipe import settled
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, tiny_folder

ROOT = Path(__file__).resolve().parents[3]
FILES = ("metrics.json", "predictions-dev.jsonl", "model/model.safetensors")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    rows = [{"text": f"{('good', 'bad')[n % 2]} film w{n} w{n % 7}", "label": n % 2} for n in range(40)]
    for split, part in (("train", rows), ("dev", rows[:12])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


def settings(**more: Any) -> list[str]:
    """Three batches an epoch."""
    values = {"train": "train.jsonl", "dev": "dev.jsonl", "export": "export", "lr": 3e-3, "max_length": 16}
    values |= {"epochs": 3, "batch_size": 16, "save_every": 3, "name": "toy"} | more
    return ["run_dir=run", "train.threads=1", "seed=2", *(f"finetune.{key}={value}" for key, value in values.items())]


def config(**more: Any) -> RunConfig:
    return settled(load_config(None, settings(**more)))


def tune(target: str, stop: Callable[[], bool] = never, **more: Any) -> dict[str, Any]:
    return fine_tune(config(**more), Path(target), Journal(None), stop)


def after(calls: int) -> Callable[[], bool]:
    """Says stop at that call, and from then on."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


def same(first: str, second: str) -> bool:
    return all((Path(first) / name).read_bytes() == (Path(second) / name).read_bytes() for name in FILES)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stopped_anywhere_it_ends_as_if_never_stopped(tmp_path: Path, architecture: str) -> None:
    """Also while dev is scored, and while the results are written."""
    tiny_folder(tmp_path / "export", architecture)
    tune("whole")
    stops = 0
    while True:
        try:
            tune("often", after(stops % 3))  # 0, 1 or 2 more looks than the last time
            break
        except Preempted as told:
            assert "the same command goes on" in str(told)  # noqa: PT017
            assert not Path("often").exists()
            stops += 1
            assert stops < 60
    assert stops > 5
    assert same("whole", "often")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_unused_layer_has_no_moments_and_is_no_matter(tmp_path: Path) -> None:
    """BERT's pooler, where an embedding is the mean of all tokens."""
    tiny_folder(tmp_path / "export", "bert")
    rows = [{"text": f"good w{n}", "text_pair": f"bad w{n % 3}", "score": n % 5} for n in range(8)]
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = {"family": "similarity", "dev": "train.jsonl", "batch_size": 4}
    tune("whole", **more)
    with pytest.raises(Preempted):
        tune("often", after(2), **more)
    tune("often", **more)
    assert same("whole", "often")


def test_a_regression_goes_on_in_the_same_units(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "export", "electra")
    rows = [{"text": f"good w{n}", "score": 50 + 10 * (n % 5)} for n in range(24)]
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = {"family": "regression", "dev": "train.jsonl", "batch_size": 8, "max_train_examples": 20}
    tune("whole", **more)
    with pytest.raises(Preempted):
        tune("often", after(5), **more)
    tune("often", **more)
    assert same("whole", "often")


def test_a_state_of_other_settings_or_a_damaged_one_is_not_gone_on_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_folder(tmp_path / "export", "electra")
    tune("whole")
    for damage in ("settings", "tensors", "json"):
        more = {"lr": 1e-3} if damage == "settings" else {}
        with pytest.raises(Preempted):
            tune(damage, after(4), **more)
        folder = tmp_path / f".{damage}.work"
        (tensors,) = folder.glob("state-*.safetensors")
        if damage == "tensors":
            tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x7f")
        elif damage == "json":
            (folder / "state.json").write_text("{")
        tune(damage)
        assert same("whole", damage), damage
        assert not folder.exists()


def test_one_folder_one_process(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "export", "electra")
    with lock_folder(tmp_path / ".toy.work"), pytest.raises(UserError, match="in use"):
        tune("toy")


def test_training_ends_when_dev_gets_no_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_folder(tmp_path / "export", "electra")
    scores = [0.2, 0.5, 0.4, 0.5, 0.3, 0.9]
    seen: list[float] = []
    truth = Classification.metrics

    def scored(self: Any, split: str, decisions: Any) -> dict[str, float]:
        figures = truth(self, split, decisions)
        if self.quick is False and len(seen) < len(scores):
            seen.append(scores[len(seen)])
            return figures | {"accuracy": seen[-1]}
        return figures

    monkeypatch.setattr(Classification, "metrics", scored)
    metrics = tune("toy", epochs=6, patience=3, lr=1e-4)
    assert [row["dev/accuracy"] for row in metrics["history"]] == scores[:5]
    assert metrics["best_epoch"] == 2
    assert metrics["updates"] == 15


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "least", "passes", "ends"),
    [
        (40, 16, 3, 0, 3, [1, 2, 3]),
        (40, 16, 3, 9, 3, [1, 2, 3]),
        (8, 32, 3, 100, 100, [33, 67, 100]),
        (8, 32, 4, 6, 6, [2, 3, 4, 6]),
        (1, 1, 1, 0, 1, [1]),
    ],
)
def test_few_examples_are_passed_over_more_often_and_scored_as_often(
    rows: int, batch: int, epochs: int, least: int, passes: int, ends: list[int]
) -> None:
    course = Course.of(rows, FinetuneConfig(batch_size=batch, epochs=epochs, min_updates=least))
    assert course.passes == passes
    assert course.updates >= least
    assert [n for n in range(1, passes + 1) if course.epoch_after(n) is not None] == ends
    assert [course.epoch_after(n) for n in ends] == list(range(1, epochs + 1))


def start(arguments: list[str], until: Callable[[], bool]) -> subprocess.Popen[bytes]:
    """The stage's own command, once `until` holds."""
    command = [sys.executable, str(ROOT / "pipeline" / "finetune.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ})
    deadline = time.monotonic() + 120
    while not until():
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


@pytest.mark.slow
def test_killed_and_terminated_the_same_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_folder(tmp_path / "export", "electra")
    more = {"epochs": 30, "save_every": 1}
    work = tmp_path / "run" / "finetune" / ".toy.work"

    def updates() -> int:
        try:
            return int(json.loads((work / "state.json").read_text())["outcome"]["updates"])
        except (OSError, ValueError):
            return 0

    process = start(settings(**more), lambda: updates() >= 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed_at = updates()
    assert killed_at >= 3

    def terminate() -> None:
        while updates() == killed_at:
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    sender = threading.Thread(target=terminate, daemon=True)
    sender.start()
    assert main("finetune", settings(**more)) == 75
    sender.join()
    assert signal.getsignal(signal.SIGTERM) is before
    assert "the same command goes on" in capsys.readouterr().err
    assert killed_at < updates() < 90
    tune("run/finetune/toy", **more)
    tune("whole", **more)
    assert same("whole", "run/finetune/toy")
    assert [path.name for path in work.parent.iterdir()] == ["toy"]
