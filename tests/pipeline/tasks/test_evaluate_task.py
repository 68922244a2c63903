"""A fine-tuned model on another file: figures, repeated runs, moved folders, settings, mistakes."""

import json
import shutil
from pathlib import Path

import mlflow
import pytest
from sklearn.metrics import accuracy_score

from pipeline.base.run_folder import RunFolder
from pipeline.base.task_sections import FieldsConfig, FinetuneConfig
from pipeline.base.tracking import read_run_id
from pipeline.command import main
from pipeline.stages.evaluate_model import Reading
from pipeline.tasks.finished import open_finished
from tests.pipeline.tasks.evaluated_folders import LABELS, pipeline_answers, write_file, write_task


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    (tmp_path / "run" / "export").mkdir(parents=True)
    return write_task(tmp_path / "run" / "finetune" / "toy")


def arguments(model: Path | str, data: Path | str, *more: str) -> list[str]:
    return [f"evaluate.model={model}", f"evaluate.data={data}", "train.threads=1", *more]


def test_figures_are_the_librarys_and_the_same_again_does_nothing(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_file(tmp_path / "new.jsonl")
    assert main("evaluate", ["--dry-run", *arguments(task, data)]) == 0
    assert "40 examples" in capsys.readouterr().out
    assert {path.name for path in task.iterdir()} == {"model", "metrics.json"}
    assert main("evaluate", arguments(task, data)) == 0
    assert "accuracy" in capsys.readouterr().out
    result = task / "evaluation-new.json"
    found = json.loads(result.read_text())
    gold, wanted = pipeline_answers(task / "model", data)
    assert found["metrics"]["accuracy"] == pytest.approx(accuracy_score(gold, wanted))
    assert found["trivial"]["accuracy"] == max(map(gold.count, LABELS)) / len(gold)
    assert len((task / "evaluation-new.jsonl").read_text().splitlines()) == 40
    run_id = read_run_id(RunFolder(tmp_path / "run"), "evaluate-toy")
    tracked = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(str(run_id))
    assert tracked.data.metrics["evaluate/toy/new/accuracy"] == found["metrics"]["accuracy"]
    assert tracked.data.tags["data_sha256"] == found["data_sha256"]

    written = result.stat().st_mtime_ns
    assert main("evaluate", arguments(task, data)) == 0
    assert "evaluated already" in capsys.readouterr().out
    assert result.stat().st_mtime_ns == written
    assert main("evaluate", arguments(task, data, "finetune.long_text=windows", "finetune.stride=8")) == 0
    windows = json.loads(result.read_text())
    assert windows["cut"] == 0 < found["cut"]
    assert windows["metrics"]["loss"] != found["metrics"]["loss"]


def test_names_of_tags_are_kept_as_they_are_compared(task: Path, tmp_path: Path) -> None:
    given = FinetuneConfig(fields=FieldsConfig(tag_names=("O", "B-PER")))
    data = write_file(tmp_path / "new.jsonl", 1)
    reading = Reading.of(open_finished(task, given, (), data), data, "digest")
    assert json.loads(json.dumps(reading.facts)) == reading.facts


def test_a_moved_folder_keeps_its_results_beside_it(task: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(task, moved)
    data = write_file(tmp_path / "new.jsonl", 4)
    other = tmp_path / "other"
    other.mkdir()
    assert main("evaluate", arguments(moved / "model", data, "run_dir=own")) == 0
    assert main("evaluate", arguments(moved, write_file(other / "new.jsonl", 5), "run_dir=own")) == 0
    results = sorted(moved.glob("evaluation-new*.json"))
    assert [json.loads(path.read_text())["examples"] for path in results] in ([4, 5], [5, 4])
    assert read_run_id(RunFolder(tmp_path / "own"), "evaluate-toy")


def test_mistakes_are_one_message_and_write_nothing(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_file(tmp_path / "new.jsonl", 4)
    (tmp_path / "unseen.jsonl").write_text('{"text": "w1", "label": "neutral"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "unlabelled.jsonl").write_text('{"text": "w1"}\n')
    before = sorted(tmp_path.rglob("*"))
    for given, wanted in (
        (arguments(task, "unseen.jsonl"), "unseen.jsonl:1: the label 'neutral' does not occur in the model"),
        (arguments(task, "nowhere.jsonl"), "nowhere.jsonl does not exist"),
        (arguments(task, "empty.jsonl"), "empty.jsonl"),
        (arguments(task, "unlabelled.jsonl"), "unlabelled.jsonl:1"),
        (arguments(task, tmp_path), "is no file"),
        (arguments("run/export", data), "no fine-tuned task (no metrics.json"),
        (arguments(task, data, "finetune.max_length=65"), "is longer than the 64 positions"),
        (arguments(task, data, "finetune.long_text=windows", "finetune.stride=30"), "leaves no room for new tokens"),
        ([f"evaluate.model={task}"], "evaluate.model needs evaluate.data too"),
        (arguments(task, data, "evaluate.probes=[bias_en]"), "give one kind a command"),
    ):
        for mode in (["--dry-run"], []):
            assert main("evaluate", [*mode, *given]) == 2, wanted
            told = capsys.readouterr().err
            assert wanted in told
            assert "Traceback" not in told
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "pairs.jsonl").write_text('{"sentence1": "w1", "sentence2": "w2", "label": "positive"}\n')
    write_task(task, paired=False)
    assert main("evaluate", ["--dry-run", *arguments(task, "pairs.jsonl")]) == 2
    assert "pairs.jsonl has two texts a record, but the model learned from one text." in capsys.readouterr().err
    write_task(task, paired=True)
    assert main("evaluate", arguments(task, data)) == 2
    assert "new.jsonl has one text a record, but the model learned from two texts." in capsys.readouterr().err
    assert main("evaluate", ["--dry-run", *arguments(task, "pairs.jsonl")]) == 0
    write_task(task)
    (task / "model" / "model.safetensors").unlink()
    assert main("evaluate", ["--dry-run", *arguments(task, data)]) == 2
    assert str(task / "model") in capsys.readouterr().err


def test_a_folder_called_finetune_above_the_run_is_no_part_of_it(tmp_path: Path) -> None:
    run = tmp_path / "finetune" / "run"
    (run / "export").mkdir(parents=True)
    task = write_task(run / "finetune" / "finetune")
    finished = open_finished(task, FinetuneConfig(), (), tmp_path / "new.jsonl")
    assert finished.run is not None
    assert finished.run.path == run
