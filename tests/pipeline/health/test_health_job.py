"""What is found is told once a state, in the log, in health.jsonl and as a tag, and not again after a restart."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.base.config import RunConfig
from pipeline.base.log import get_logger
from pipeline.health.facts import Finding
from pipeline.health.reference import Curve, Reference
from pipeline.training import health_job
from pipeline.training.checkpoint import TrainState
from pipeline.training.health_job import Health
from pipeline.training.ranks import Ranks
from pipeline.training.run import Run
from pipeline.training.step import StepResult

BAD, WORSE = Finding("bad", "it is bad: mend it"), Finding("worse", "it is worse: mend that")


def job(folder: Path, tags: list[str], step: int = 0) -> Health:
    tracker = SimpleNamespace(tags=lambda given: tags.append(given["health"]))
    run = SimpleNamespace(
        config=RunConfig(),
        folder=SimpleNamespace(path=folder),
        origin=SimpleNamespace(vocab_size=300),
        ranks=Ranks(),
        tracker=tracker,
        engine=None,
    )
    return Health(cast(Run, cast(Any, run)), TrainState(step=step))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[logging.LogRecord]]:
    """What is logged, whatever handlers other tests have left."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    monkeypatch.setattr(get_logger(), "handlers", [handler])
    monkeypatch.setattr(get_logger(), "propagate", False)
    level = get_logger().level
    get_logger().setLevel(logging.INFO)
    yield records
    get_logger().setLevel(level)


def test_once_a_state(tmp_path: Path, told: list[logging.LogRecord]) -> None:
    tags: list[str] = []
    health = job(tmp_path, tags)
    for step, found in enumerate(([], [BAD], [BAD], [BAD, WORSE], [WORSE], []), 1):
        health._tell(step, found)
    assert [record.getMessage() for record in told] == [
        "step 2: health: it is bad: mend it",
        "step 4: health: it is worse: mend that",
        "step 5: health: no longer: bad",
        "step 6: health: no longer: worse",
    ]
    assert [record.levelname for record in told] == ["WARNING", "WARNING", "INFO", "INFO"]
    assert tags == ["bad", "bad, worse", "worse", "sound"]
    lines = [json.loads(line) for line in (tmp_path / "health.jsonl").read_text().splitlines()]
    assert [(line["step"], line["state"], line["code"]) for line in lines] == [
        *((2, "begins", "bad"), (4, "begins", "worse"), (5, "ends", "bad"), (6, "ends", "worse"))
    ]


def test_after_a_restart(tmp_path: Path) -> None:
    tags: list[str] = []
    before = job(tmp_path, tags)
    before._tell(2, [BAD])
    before._tell(4, [BAD, WORSE])
    after = job(tmp_path, tags, step=3)  # from a checkpoint of step 3
    assert list(after.active) == ["bad"]
    after._tell(4, [BAD, WORSE])
    lines = [json.loads(line)["step"] for line in (tmp_path / "health.jsonl").read_text().splitlines()]
    assert lines == [2, 4]


def test_out_of_its_band_and_back(
    tmp_path: Path, told: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = Curve(steps=[1, 100], mean=[0.2, 0.4], low=[0.1, 0.3], high=[0.3, 0.5])
    reference = Reference(preset="flat", about="", shape={}, curves={"train/generator/accuracy": curve})
    monkeypatch.setattr(health_job, "reference_for", lambda config, vocab_size: reference)
    monkeypatch.setattr(health_job, "KNOWN", ())
    monkeypatch.setattr(health_job, "figures_of", lambda facts, config: {"train/generator/accuracy": facts})
    tags: list[str] = []
    health = job(tmp_path, tags)
    for step in range(10, 101, 10):
        health.probe = cast(Any, SimpleNamespace(facts=lambda *given, at=step: 0.01 if at <= 60 else 0.35))
        health.run(TrainState(step=step), cast(StepResult, None))
    lines = [json.loads(line) for line in (tmp_path / "health.jsonl").read_text().splitlines()]
    assert [(line["step"], line["state"], line["code"]) for line in lines] == [
        (30, "begins", "out-of-band/generator/accuracy"),
        (90, "ends", "out-of-band/generator/accuracy"),
    ]
    assert tags == ["out-of-band/generator/accuracy", "sound"]
    assert [record.levelname for record in told] == ["WARNING", "INFO"]
    assert "the generator is not learning" in told[0].getMessage()


def test_the_steps_looked_at(tmp_path: Path) -> None:
    health = job(tmp_path, [])
    looked_at = [step for step in range(1, 301) if health.prepare(TrainState(step=step - 1)) is not None]
    assert looked_at == [1, 2, 100, 200, 300]
