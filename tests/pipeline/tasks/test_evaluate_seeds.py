"""All seeds of a fine-tuning on another file: their median and spread, one model at a time, and the export's card."""

import gc
import json
import shutil
import statistics
import weakref
from pathlib import Path
from typing import Any

import mlflow
import pytest
from sklearn.metrics import accuracy_score

from pipeline.base.files import sha256_file, write_json
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id
from pipeline.command import main
from pipeline.release.measured import BEGIN, END
from pipeline.tasks.families.classification import Classification
from tests.pipeline.tasks.evaluated_folders import pipeline_answers, write_file, write_task

DEV = {4: 0.5, 5: 0.75, 6: 0.75}
"""Seed to its dev score: the first of the two equal ones is the best."""


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """run/finetune/ours/toy of three seeds, fine-tuned from run/export/discriminator, whose card is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    card = tmp_path / "run" / "export" / "discriminator" / "README.md"
    card.parent.mkdir(parents=True)
    card.write_text(f"{BEGIN}\n{END}\n")
    weights = card.with_name("model.safetensors")
    weights.write_bytes(b"weights")
    write_json(card.parents[1] / "export.json", {"files": {"discriminator/README.md": "", "discriminator/x": ""}})
    folder = tmp_path / "run" / "finetune" / "ours" / "toy"
    for seed, dev in DEV.items():
        write_task(folder / f"seed-{seed}", seed, **{"finetune/toy/dev/accuracy": dev})
    shutil.copytree(folder / "seed-5" / "model", folder / "model")
    described = json.loads((folder / "seed-5" / "metrics.json").read_text())
    described |= {"seeds": list(DEV), "best_seed": 5, "inputs": {"finetune.export": sha256_file(weights)}}
    write_json(folder / "metrics.json", described | {"finetune/toy/accuracy": 0.75, "reported_split": "dev"})
    return folder


def evaluate(group: Path, data: Path) -> int:
    return main("evaluate", [f"evaluate.model={group}", f"evaluate.data={data}", "train.threads=1"])


def test_every_seed_is_read_and_the_spread_told(
    group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Any] = []
    reload = Classification.reload

    def watched(*given: Any) -> Any:
        gc.collect()
        assert all(model() is None for model in models), "one model at a time"
        model, tokenizer = reload(*given)
        models.append(weakref.ref(model))
        return model, tokenizer

    monkeypatch.setattr(Classification, "reload", watched)
    data = write_file(tmp_path / "new.jsonl")
    assert evaluate(group, data) == 0
    assert len(models) == 3
    told = capsys.readouterr().out
    reached = {seed: accuracy_score(*pipeline_answers(group / f"seed-{seed}" / "model", data)) for seed in DEV}
    median, std = statistics.median(reached.values()), statistics.stdev(reached.values())
    assert std > 0
    (row,) = (line.split() for line in told.splitlines() if line.startswith("  accuracy "))
    figures = (median, std, min(reached.values()), max(reached.values()), reached[5])
    assert row[1:6] == [f"{value:.4f}" for value in figures]
    assert "3 seeds, of which 5 is the best on dev" in told
    result = group / "evaluation-new.json"
    found = json.loads(result.read_text())
    assert found["metrics"]["accuracy"] == median
    assert found["spread"]["accuracy"] == pytest.approx(
        dict(zip(("std", "min", "max", "best_of_dev"), figures[1:], strict=True))
    )
    assert {seed: values["accuracy"] for seed, values in found["by_seed"].items()} == pytest.approx(
        {str(seed): value for seed, value in reached.items()}
    )
    assert len((group / "seed-6" / "evaluation-new.jsonl").read_text().splitlines()) == 40
    run = str(read_run_id(RunFolder(tmp_path / "run"), "evaluate-ours/toy"))
    logged = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(run).data.metrics
    assert logged["evaluate/toy/new/accuracy"] == median
    assert logged["evaluate/toy/new/accuracy/std"] == pytest.approx(std)
    card = (tmp_path / "run" / "export" / "discriminator" / "README.md").read_text()
    assert f"| `ours/toy` | file `new` |  | accuracy | {median:.4f} ± {std:.4f}, 3 seeds |" in card

    (group / "seed-6" / "evaluation-new.jsonl").unlink()
    assert evaluate(group / "model", data) == 0
    assert len(models) == 4, "only what was missing is read again"
    assert json.loads(result.read_text()) == found
    capsys.readouterr()
    assert evaluate(group, data) == 0
    assert len(models) == 4
    assert "evaluated already" in capsys.readouterr().out


def test_a_missing_seed_is_said_before_anything_is_read(
    group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_file(tmp_path / "new.jsonl", 4)
    (group / "seed-6" / "metrics.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    assert evaluate(group, data) == 2
    assert "is of the seeds 4, 5, 6, but seed-6 is missing or not finished" in capsys.readouterr().err
    write_task(group / "seed-6", 6)
    assert evaluate(group, data) == 2
    assert "dev scores are missing" in capsys.readouterr().err
    (group / "seed-6" / "metrics.json").unlink()
    (group / "metrics.json").unlink()  # as a sweep leaves it, of which one seed has failed
    assert main("evaluate", ["--dry-run", f"evaluate.model={group}", f"evaluate.data={data}"]) == 0
    assert "seeds 4, 5)" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == [path for path in before if path != group / "metrics.json"]
