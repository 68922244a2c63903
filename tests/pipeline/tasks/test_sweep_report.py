"""Tables and curves of a sweep from the figures on disk, written here by hand."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.base.config import load_config
from pipeline.tasks.sweep import Sweep, plan_sweep
from pipeline.tasks.sweep_report import Report, counted_path


def planned(folder: Path, *more: str) -> Sweep:
    settings = ["name=toy", "train=t", "dev=d", "export=e", "seeds=3", "train_examples=[8, 32]", *more]
    return plan_sweep(load_config(None, [f"run_dir={folder}", *(f"finetune.{setting}" for setting in settings)]))


def curve_of(sweep: Sweep, folder: Path, plain: Any) -> dict[str, Any]:
    """learning-curve.json, once every job has left its figures: a seed is worth 0.01, an example 0.001."""
    task: Any = SimpleNamespace(
        selection="f1", headline=("f1", "precision"), splits=("train", "dev"), plain=plain, examples={"train": [0] * 99}
    )
    for job in sweep.jobs:
        reached = 0.5 + 0.01 * job.seed + 0.001 * (job.examples or 0)
        figures = {"dev/f1": reached, "dev/precision": 0.0, "dev/trivial_f1": reached - 0.25}
        made = {f"finetune/toy/{name}": value for name, value in figures.items()}
        job.target.mkdir(parents=True)
        (job.target / "metrics.json").write_text(json.dumps(made | {"name": "toy", "reported_split": "dev"}))
        counted = counted_path(folder / "finetune", job, whole=False)
        counted.parent.mkdir(parents=True, exist_ok=True)
        counted.write_text(json.dumps({"figures": {"dev": {"f1": reached - 0.125}}}))
    report = Report.of(sweep, {"toy": task})
    assert [path.suffix for path in report.write_curves()] == [".md", ".html", ".json"]
    found: dict[str, Any] = json.loads((folder / "finetune" / "toy" / "learning-curve.json").read_text())
    assert (found["metric"], found["split"]) == ("f1", "dev")
    return dict(found["series"])


def test_a_curve_has_the_simple_answers_without_being_asked(tmp_path: Path) -> None:
    """The middle seed is 1: 0.51 and 0.001 an example."""
    series = curve_of(planned(tmp_path), tmp_path, lambda split: ([], []))
    medians = {name: [points[size]["median"] for size in ("8", "32")] for name, points in series.items()}
    assert medians == {
        "result": pytest.approx([0.518, 0.542]),
        "bag of words": pytest.approx([0.393, 0.417]),
        "trivial answer": pytest.approx([0.268, 0.292]),
    }
    html = (tmp_path / "finetune" / "toy" / "learning-curve.html").read_text()
    assert all(f">{name}<" in html for name in series)


def test_without_a_linear_model_the_trivial_answer_remains(tmp_path: Path) -> None:
    assert set(curve_of(planned(tmp_path / "a", "bag_of_words=false"), tmp_path / "a", lambda split: ([], []))) == {
        "result",
        "trivial answer",
    }
    assert set(curve_of(planned(tmp_path / "b"), tmp_path / "b", lambda split: None)) == {"result", "trivial answer"}
