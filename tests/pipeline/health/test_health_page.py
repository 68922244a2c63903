"""health.html: the run beside its reference, what was found, every text escaped; seldom, and never in the way."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.base.config import RunConfig
from pipeline.health.page import compared_with, render, told
from pipeline.health.reference import Curve, Reference
from pipeline.reporting.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from pipeline.reporting.curves import POINTS, band_chart, even_ticks, ratio_ticks
from pipeline.training import health_page
from pipeline.training.checkpoint import TrainState
from pipeline.training.health_job import Health
from pipeline.training.health_page import HealthPage
from pipeline.training.run import Run
from pipeline.training.speed import Speed
from pipeline.training.step import StepResult
from tests.pipeline.health.curved import ACCURACY, run_folder
from tests.pipeline.reporting.test_report import Page

HOSTILE = "</title><script>alert(1)</script>{{ 7 * 7 }}\"'&amp;\0"
REFERENCE = Reference(
    preset="flat",
    about="3 runs",
    shape={},
    curves={ACCURACY: Curve(steps=[10, 400], mean=[0.1, 0.4], low=[0.0, 0.3], high=[0.2, 0.5])},
)


def findings(*entries: tuple[int, str, str, str]) -> str:
    lines = [dict(zip(("step", "state", "code", "words"), entry, strict=True)) for entry in entries]
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_the_run_its_reference_and_the_findings(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "x", 1)
    (folder / "health.jsonl").write_text(
        findings(
            *((20, "begins", "over", "It was bad."), (30, "begins", "lasts", "It is bad."), (40, "ends", "over", "")),
            (50, "begins", "over", "It was bad again."),
        )
        + '{"step": 60, "sta'  # being written
    )
    compared = compared_with(REFERENCE)
    page = Page(render(folder / "metrics.jsonl", folder / "health.jsonl", "Health of x", compared, REFERENCE))
    assert page.headings == ["What is wrong", "Curves"]
    for part in ("flat to step 400: 3 runs", "from step 30 on", "steps 20 to 40, over", "It was bad again."):
        assert part in page.text, part
    assert "0.3 to 0.5 as its band" in page.text
    assert len(page.all("svg")) == 3
    assert len(page.all("polygon")) == 1  # the reference knows one of the figures
    policy = page.all("meta")[1]["content"]
    assert "default-src 'none'" in str(policy)
    assert not page.all("script")
    assert page.all("link") + page.all("img") == []


def test_texts_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "health.jsonl").write_text(findings((20, "begins", HOSTILE, HOSTILE)))
    name = f"train/gradient/{HOSTILE}"
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "time": 0, name: 1.0}) + "\n")
    text = render(tmp_path / "metrics.jsonl", tmp_path / "health.jsonl", HOSTILE, HOSTILE, None)
    page = Page(text)
    assert not page.all("script")
    assert "\0" not in text
    assert page.text.count("<script>alert(1)</script>{{ 7 * 7 }}") == 6  # title, heading, sentence, code, words, figure


def test_an_empty_run(tmp_path: Path) -> None:
    page = Page(render(tmp_path / "metrics.jsonl", tmp_path / "health.jsonl", "t", "c", None))
    assert "Nothing was found." in page.text
    assert "There are no points yet." in page.text


def test_findings_that_last_come_first() -> None:
    entries = [
        {"step": step, "state": state, "code": code, "words": code}
        for step, state, code in ((1, "begins", "a"), (2, "begins", "b"), (3, "ends", "a"), (4, "begins", "a"))
    ]
    assert [(one["code"], one["begin"], one["end"]) for one in told(entries)] == [
        *(("b", 2, None), ("a", 4, None), ("a", 1, 3))
    ]


@pytest.mark.parametrize("ratio", [False, True])
def test_the_chart_lies_within_its_limits(ratio: bool) -> None:
    run = [(step, math.exp(-step / 300) * (1 + 0.3 * math.sin(step))) for step in range(1, 5001)]
    mean = [(1, 1.0), (500, 0.5)]
    low, high = [(step, value / 2) for step, value in mean], [(step, value * 2) for step, value in mean]
    chart = band_chart(run, mean, low, high, ratio=ratio)
    points = [tuple(map(float, pair.split(","))) for pair in f"{chart.line} {chart.mean} {chart.band}".split()]
    assert len(chart.line.split()) <= POINTS
    assert len(chart.band.split()) == 4
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in points)
    assert all(TOP <= y <= HEIGHT - BOTTOM for y, _ in chart.up)
    assert [label for _, label in chart.across] == ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]


@pytest.mark.parametrize("values", [[], [0.0], [1.0], [3.0, 3.0], [0.0, 1e-9], [1e-30, 1e30]])
@pytest.mark.parametrize("ratio", [False, True])
def test_charts_of_little(values: list[float], ratio: bool) -> None:
    chart = band_chart(list(enumerate(values, 1)), ratio=ratio)
    assert "nan" not in str(chart)
    assert len(chart.up) < 20


def test_ticks() -> None:
    assert even_ticks(0, 5000) == [0, 1000, 2000, 3000, 4000, 5000]
    assert even_ticks(0.11, 0.15) == pytest.approx([0.11, 0.12, 0.13, 0.14, 0.15])
    assert ratio_ticks(-1, 0.5) == pytest.approx([0.1, 0.2, 0.5, 1, 2])
    assert len(ratio_ticks(-30, 30)) <= 7


def job(folder: Path, artifacts: list[str]) -> HealthPage:
    run = SimpleNamespace(
        config=RunConfig().model_copy(
            update={"train": RunConfig().train.model_copy(update={"eval_every": 20, "save_every": 30, "steps": 100})}
        ),
        folder=SimpleNamespace(path=folder, metrics=folder / "metrics.jsonl"),
        origin=SimpleNamespace(vocab_size=300),
        ranks=SimpleNamespace(rank=0),
        tracker=SimpleNamespace(artifact=lambda path: artifacts.append(path.name)),
        speed=Speed(),
    )
    health = SimpleNamespace(path=folder / "health.jsonl", bands=SimpleNamespace(reference=None))
    return HealthPage(cast(Run, cast(Any, run)), cast(Health, cast(Any, health)))


def write(page: HealthPage, step: int) -> None:
    page.run(TrainState(step=step), cast(StepResult, None))


def test_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts: list[str] = []
    page = job(run_folder(tmp_path / "x", 1), artifacts)
    assert [step for step in range(1, 101) if page.due(step)] == [20, 30, 40, 60, 80, 90, 100]
    write(page, 20)
    write(page, 30)  # too soon: it would cost more than a hundredth of the time
    assert artifacts == ["health.html"]
    write(page, 100)
    assert artifacts == ["health.html"] * 2
    monkeypatch.setattr(health_page, "PART", 1e9)
    page = job(tmp_path / "x", artifacts)
    write(page, 20)
    write(page, 30)
    assert len(artifacts) == 4
    text = (tmp_path / "x" / "health.html").read_text()
    assert "Health of x" in text
    assert "Nothing is compared" in text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "metrics.jsonl").write_bytes(b"\xff\xfe\n"),
        lambda folder: (folder / "health.html").mkdir(),
        lambda folder: (folder / "health.jsonl").write_text('{"step": 1}\n'),
    ],
)
def test_it_never_ends_a_run(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder, artifacts = run_folder(tmp_path / "x", 1), list[str]()
    spoil(folder)
    write(job(folder, artifacts), 100)
    assert artifacts == []
    assert not [path for path in folder.iterdir() if path.name.endswith(".aside")]
