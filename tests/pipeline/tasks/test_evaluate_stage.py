"""The evaluate stage on a checkpoint written by hand, without DeepSpeed."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import pytest
from safetensors.torch import save_file

from pipeline.base.config import RunConfig, dump_config, load_config
from pipeline.base.files import sha256_file, write_json
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id
from pipeline.command import main
from pipeline.stages import evaluate
from pipeline.tasks.evaluation_table import table, verdict
from pipeline.training.checkpoint import TrainState, checkpoint_name, move_latest, write_manifest
from pipeline.training.precision import make_objective
from tests.datasets import make_dataset

VOCABULARY = 300


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path / "run", vocab_size=VOCABULARY)


def settings(**more: Any) -> list[str]:
    sizes = {"hidden_size": 16, "layers": 1, "heads": 2, "ffn_size": 32, "embedding_size": 16, "max_positions": 32}
    values: dict[str, Any] = {f"model.{key}": value for key, value in sizes.items()}
    values |= {"run_dir": "run", "tokenizer.vocab_size": VOCABULARY, "data.sequence_length": 32, "train.threads": 1}
    values |= {"train.batch_size": 16, "train.micro_batch_size": 8, "train.precision": "fp32"}
    return [f"{key}={value}" for key, value in (values | more).items()]


def config(**more: Any) -> RunConfig:
    return load_config(None, settings(**more))


def write_checkpoint(run: RunConfig, step: int = 7, tokenizer: str | None = None) -> Path:
    folder = RunFolder(Path(run.run_dir))
    path = folder.checkpoints / checkpoint_name(step)
    path.mkdir(parents=True)
    objective = make_objective(run, VOCABULARY)
    save_file({name: value.detach() for name, value in objective.named_parameters()}, path / "weights.safetensors")
    write_json(path / "state.json", asdict(TrainState(step=step, samples=112, tokens=3584)) | {"loss_scale": {}})
    (path / "config.yaml").write_text(dump_config(run))
    facts = {"step": step, "vocab_size": VOCABULARY, "mlflow_run_id": "the-run-that-trained-it"}
    facts |= {"tokenizer_sha256": tokenizer or sha256_file(folder.tokenizer)}
    facts |= {"data_manifest_sha256": sha256_file(folder.manifest)}
    write_manifest(path, facts)
    move_latest(folder, path.name)
    return path


@pytest.mark.slow
def test_figures_are_written_linked_and_not_made_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(config())
    # The command's own sizes do not matter: the checkpoint is evaluated as it was trained.
    assert main("evaluate", ["run_dir=run", "train.threads=1", "evaluate.sequences=24"]) == 0
    printed = capsys.readouterr().out
    result = tmp_path / "run" / "evaluation.json"
    figures = json.loads(result.read_text())
    assert figures["checkpoint"] == "step-00000007"
    assert figures["sequences"] == 24
    assert 0 < figures["eval/generator/unigram_accuracy"] < 0.2
    assert figures["eval/generator/loss"] == pytest.approx(math.log(VOCABULARY), abs=0.2)
    assert figures["eval/discriminator/auc"] == pytest.approx(0.5, abs=0.1)
    for part in (
        "always guessing the most frequent piece",
        "1.0 has learned nothing",
        "frequency alone",
        "evaluation.json",
    ):
        assert part in printed
    run_id = read_run_id(RunFolder(tmp_path / "run"), "evaluate")
    tracked = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(str(run_id))
    assert tracked.data.tags["pretrain_run_id"] == "the-run-that-trained-it"
    assert tracked.data.tags["checkpoint_sha256"] == sha256_file(checkpoint / "manifest.json")
    assert tracked.data.metrics["eval/discriminator/auc"] == figures["eval/discriminator/auc"]

    written = result.stat().st_mtime_ns
    evaluate.run(config(**{"evaluate.sequences": 24, "train.micro_batch_size": 3}))
    assert result.stat().st_mtime_ns == written
    assert "evaluate is done" in capsys.readouterr().out
    for damaged in ("[]", '{"half'):
        result.write_text(damaged)
        evaluate.run(config(**{"evaluate.sequences": 24}))
        assert json.loads(result.read_text()) == figures
    evaluate.run(config(**{"evaluate.sequences": 10_000}))
    assert json.loads(result.read_text())["sequences"] < 10_000


def test_mistakes_are_one_message_and_the_plan_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main("evaluate", settings()) == 2
    assert "there is no checkpoint in run/checkpoints. Run pipeline/pretrain.py first." in capsys.readouterr().err
    write_checkpoint(config(), step=1, tokenizer="0" * 64)
    before = sorted(tmp_path.rglob("*"))
    assert main("evaluate", settings()) == 2
    assert "trained with another tokenizer" in capsys.readouterr().err
    assert main("evaluate", settings(**{"evaluate.checkpoint": "step-00000009"})) == 2
    assert "there are: step-00000001" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    write_checkpoint(config(), step=2)
    before = sorted(tmp_path.rglob("*"))
    assert main("evaluate", ["--dry-run", *settings()]) == 0
    assert "in the validation split, 32 tokens each" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "run" / "data" / "validation" / "000000.tar").write_bytes(b"no tar")
    assert main("evaluate", settings()) == 2
    assert "validation/000000.tar" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_table_and_verdict_of_figures_by_hand() -> None:
    rate = 0.1
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    figures = {
        "generator/loss": 4.0,
        "generator/accuracy": 0.4,
        "generator/unigram_accuracy": 0.17,
        "discriminator/fake_rate": rate,
        "discriminator/loss": 0.97 * entropy,
        "discriminator/loss_over_entropy": 0.97,
        "discriminator/auc": 0.61,
        "discriminator/frequency_auc": 0.55,
        "discriminator/accuracy": 0.91,
    }
    rows = {line.split()[0]: line.split() for line in table(figures).splitlines()}
    assert rows["generator/accuracy"][1:3] == ["0.4000", "0.1700"]
    assert rows["discriminator/loss"][2] == f"{entropy:.4f}"
    assert rows["discriminator/loss_over_entropy"][1:3] == ["0.9700", "1.0000"]
    assert rows["discriminator/auc"][1:3] == ["0.6100", "0.5500"]
    assert rows["discriminator/accuracy"][1:3] == ["0.9100", "0.9000"]
    assert "has left the unigram plateau" in verdict(figures)
    assert "has begun to tell fakes (loss over entropy 0.970)" in verdict(figures)
    mlm = {"generator/loss": 4.0, "generator/accuracy": 0.18, "generator/unigram_accuracy": 0.17}
    assert len(table(mlm).splitlines()) == 3
    assert verdict(mlm) == "The generator is still on the unigram plateau (0.180 against 0.170)."
