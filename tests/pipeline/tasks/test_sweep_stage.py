"""A whole sweep on a local Ray: what it leaves, that it goes on, and that one failure costs only itself."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from pipeline.command import main
from pipeline.tasks import sweep_work
from pipeline.tasks.sweep_work import Failure, count_words, fine_tune_one
from tests.pipeline.tasks.tiny_folders import tiny_folder

SECTION = {"batch_size": 8, "epochs": 2, "max_length": 32, "lr": 3e-3}


def write_data(folder: Path, name: str, scores: bool) -> None:
    """One telling word; as a label or as a score."""
    draw = random.Random(0)
    for split, size in {"train": 48, "dev": 24, "test": 24}.items():
        lines = []
        for _ in range(size):
            good = draw.random() < 0.5
            words = [f"w{draw.randrange(40)}" for _ in range(draw.randrange(3, 9))] + ["good" if good else "bad"]
            answer = {"score": float(good)} if scores else {"label": "positive" if good else "negative"}
            lines.append(json.dumps({"text": " ".join(words), **answer}))
        (folder / f"{name}-{split}.jsonl").write_text("\n".join(lines) + "\n")
    files = {split: f"{name}-{split}.jsonl" for split in ("train", "dev", "test")}
    section = {"name": name, "family": "regression" if scores else "classification", **files}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"finetune": section}))


def write_sweep(folder: Path, **section: Any) -> None:
    export = {"path": str(folder / "run" / "export" / "discriminator")}
    values = {
        "tasks": ["label.yaml", "score.yaml"],
        "exports": {"ours": export, "random": export | {"weights": "random"}},
    }
    values |= {"seeds": 2, "bag_of_words": True, "log_model": False, **SECTION, **section}
    ray = {"address": "local", "num_cpus": 2}
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"run_dir": "run", "finetune": values, "ray": ray}))


@pytest.mark.slow
def test_a_sweep_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_folder(tmp_path / "run" / "export" / "discriminator", "electra")
    (tmp_path / "run" / "tracking.json").write_text(json.dumps({"export": {"run_id": "abc", "sent": 0}}))
    write_data(tmp_path, "label", scores=False)
    write_data(tmp_path, "score", scores=True)
    write_sweep(tmp_path, task_settings={"score": {"lr": 1e30}})
    assert main("finetune", ["--config", "sweep.yaml"]) == 2
    told = capsys.readouterr()
    assert "4 of the sweep's jobs (8 fine-tunings) failed" in told.err
    assert "ours/score/seed-1: the loss is" in told.err
    assert "| label | accuracy | test |" in told.out
    folder = tmp_path / "run" / "finetune"
    assert sorted(path.name for path in (folder / "ours" / "label").iterdir()) == [
        "metrics.json",
        "model",
        "seed-0",
        "seed-1",
    ]
    done = {path: path.stat().st_mtime_ns for path in folder.glob("*/label/seed-*/metrics.json")}
    assert len(done) == 4

    write_sweep(tmp_path)
    assert main("finetune", ["--config", "sweep.yaml"]) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    rows = {(row["task"], row["metric"]): row for row in json.loads((folder / "comparison.json").read_text())["rows"]}
    row = rows["label", "accuracy"]
    tests = [
        json.loads((folder / "ours" / "label" / f"seed-{seed}" / "metrics.json").read_text())[
            "finetune/label/test/accuracy"
        ]
        for seed in (0, 1)
    ]
    assert row["exports"]["ours"]["median"] == sum(tests) / 2
    assert row["bag_of_words"] > 0.9
    assert rows["score", "spearman"]["seeds"] == {"ours": 2, "random": 2}
    check_runs(f"sqlite:///{tmp_path}/mlflow.db", json.loads((tmp_path / "run" / "tracking.json").read_text()))

    assert main("finetune", ["--config", "sweep.yaml"]) == 0  # nothing is left to do, and no Ray is started
    assert "8 fine-tunings, 8 of them done already" in capsys.readouterr().out


def check_runs(uri: str, state: dict[str, Any]) -> None:
    """Seeds under tasks, tasks under the sweep, the export linked, all of them well ended, tables with the sweep."""
    client, ids = MlflowClient(uri), {stage: entry["run_id"] for stage, entry in state.items()}
    assert len(ids) == 1 + 1 + 4 + 8
    runs = {stage: client.get_run(run) for stage, run in ids.items() if stage != "export"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    seed, task = runs["finetune-ours/score/seed-1"], runs["finetune-ours/score"]
    assert seed.data.tags["mlflow.parentRunId"] == ids["finetune-ours/score"]
    assert task.data.tags["mlflow.parentRunId"] == ids["finetune-sweep"]
    assert task.data.tags["export_run_id"] == "abc"
    assert "finetune/score/test/spearman/std" in task.data.metrics
    assert "finetune/score/train/loss" in seed.data.metrics
    kept = {artifact.path for artifact in client.list_artifacts(ids["finetune-sweep"])}
    assert kept == {"comparison.md", "comparison.html", "comparison.json"}


def test_a_dry_run_lists_the_jobs_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_folder(tmp_path / "run" / "export" / "discriminator", "electra")
    write_data(tmp_path, "label", scores=False)
    write_data(tmp_path, "score", scores=True)
    write_sweep(tmp_path, train_examples=[8, 16, 1000, 2000], seeds=1)
    before = sorted(tmp_path.rglob("*"))
    assert main("finetune", ["--config", "sweep.yaml", "--dry-run"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    lines = capsys.readouterr().out.splitlines()
    jobs = [line.split()[0] for line in lines if "/seed-" in line]
    assert len(jobs) == 2 * 2 * 3, "sizes beyond the file are all of it, once"
    assert "ours/label/examples-48/seed-0" in jobs
    (line,) = (line for line in lines if "ours/label/examples-8/seed-0" in line)
    assert "100 steps" in line
    (tmp_path / "score-dev.jsonl").write_text('{"text": "a"}\n')
    assert main("finetune", ["--config", "sweep.yaml"]) == 2
    assert "score-dev.jsonl:1" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_worker_meets_comes_back_as_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sweep_work, "fine_tune", broken)
    found = fine_tune_one({}, str(tmp_path / "target"), str(tmp_path / "journal.jsonl"))
    assert isinstance(found, Failure)
    assert found.defect
    assert "ZeroDivisionError" in found.message
    statuses = [json.loads(line).get("status") for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [status for status in statuses if status] == ["RUNNING", "FAILED"]
    missing = {"finetune": {"train": str(tmp_path / "no.jsonl"), "dev": str(tmp_path / "no.jsonl")}}
    found = count_words(missing, str(tmp_path / "figures.json"))
    assert isinstance(found, Failure)
    assert not found.defect
    assert "no.jsonl does not exist" in found.message
