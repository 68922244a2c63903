"""The stage end to end: what it learns, leaves behind, repeats, and refuses."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import zstandard
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score

from model.config import ModelConfig
from model.hf import to_hf
from model.objectives.base import build_objective, objective_class
from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import UserError
from pipeline.command import main
from pipeline.stages import finetune
from pipeline.tasks.families.base import open_task
from pipeline.tasks.formats.files import read_bytes
from pipeline.tasks.formats.jsonl import read_json_lines
from pipeline.tasks.pretrained import open_pretrained
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, SPECIAL, WORDS, tiny_folder, tiny_model, tiny_tokenizer


@pytest.fixture(autouse=True)
def _own_folder_and_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")


def write_toy(folder: Path, sizes: dict[str, int]) -> None:
    """Texts with one telling word among noise."""
    draw = random.Random(0)
    for split, size in sizes.items():
        with open(folder / f"{split}.jsonl", "w") as file:
            for _ in range(size):
                label = draw.choice(("negative", "positive"))
                words = [f"w{draw.randrange(40)}" for _ in range(draw.randrange(3, 12))]
                words.insert(draw.randrange(len(words)), "good" if label == "positive" else "bad")
                file.write(json.dumps({"text": " ".join(words), "label": label}) + "\n")


def settings(export: Path, **more: Any) -> list[str]:
    """key=value arguments of a short run in the working folder."""
    values: dict[str, Any] = {"run_dir": "run", "seed": 3, "train.threads": 1, "finetune.export": export}
    values |= {f"finetune.{split}": f"{split}.jsonl" for split in ("train", "dev", "test")}
    values |= {"finetune.lr": 3e-3, "finetune.max_length": 32, "finetune.epochs": 4, "finetune.batch_size": 16}
    return [f"{key}={value}" for key, value in (values | more).items()]


def config(export: Path, **more: Any) -> RunConfig:
    return load_config(None, settings(export, **more))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_learns_a_toy_task_and_leaves_a_folder_that_loads(tmp_path: Path, architecture: str) -> None:
    write_toy(tmp_path, {"train": 320, "dev": 64, "test": 64})
    tiny_folder(tmp_path / "export", architecture)
    finetune.run(config(tmp_path / "export", **{"finetune.name": "toy"}))
    folder = tmp_path / "run" / "finetune" / "toy"
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.json",
        "model",
        "predictions-dev.jsonl",
        "predictions-test.jsonl",
    ]
    assert [path.name for path in folder.parent.iterdir() if "aside" in path.name] == []
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["finetune/toy/accuracy"] == metrics["finetune/toy/test/accuracy"] > 0.9
    predictions = read_lines(folder / "predictions-test.jsonl")
    truth, predicted = ([row[key] for row in predictions] for key in ("label", "predicted"))
    assert metrics["finetune/toy/accuracy"] == accuracy_score(truth, predicted)
    assert metrics["finetune/toy/f1"] == pytest.approx(f1_score(truth, predicted, pos_label="positive"))
    assert metrics["history"][metrics["best_epoch"] - 1]["dev/accuracy"] == metrics["finetune/toy/dev/accuracy"]
    texts = [row["text"] for row in read_lines(tmp_path / "test.jsonl")]
    classify = transformers.pipeline("text-classification", model=str(folder / "model"), device="cpu")
    for answer, row in zip(classify(texts, truncation=True), predictions, strict=True):
        assert answer["label"] == row["predicted"]
        assert answer["score"] == pytest.approx(row["scores"][row["predicted"]], abs=1e-5)
    assert classify.tokenizer("good [MASK]")["input_ids"].count(classify.tokenizer.mask_token_id) == 0


def tiny_run(folder: Path, **more: Any) -> Path:
    """Small enough to be run several times."""
    values = {"finetune.name": "toy", "finetune.epochs": 2, "finetune.test": "null"} | more
    finetune.run(config(folder / "export", **values))
    return Path(str(values.get("run_dir", "run"))) / "finetune" / "toy"


@pytest.mark.slow
def test_same_seed_same_result_and_a_finished_task_is_left_alone(tmp_path: Path) -> None:
    write_toy(tmp_path, {"train": 48, "dev": 32})
    tiny_folder(tmp_path / "export", "electra")
    first, again = tiny_run(tmp_path), tiny_run(tmp_path, run_dir="again")
    assert (first / "metrics.json").read_bytes() == (again / "metrics.json").read_bytes()
    assert (first / "predictions-dev.jsonl").read_bytes() == (again / "predictions-dev.jsonl").read_bytes()
    assert (first / "model" / "model.safetensors").read_bytes() == (again / "model" / "model.safetensors").read_bytes()
    assert not (first / "predictions-test.jsonl").exists()
    other = tiny_run(tmp_path, run_dir="other", seed=4, **{"finetune.precision": "bf16"})
    assert json.loads((first / "metrics.json").read_text()) != json.loads((other / "metrics.json").read_text())

    written = (first / "metrics.json").stat().st_mtime_ns
    tiny_run(tmp_path)
    with pytest.raises(UserError, match=r"made with other settings:\n  finetune\.lr: 0\.003 then, 0\.001 now"):
        tiny_run(tmp_path, **{"finetune.lr": 1e-3})
    with (tmp_path / "dev.jsonl").open("a") as file:
        file.write('{"text": "good", "label": "positive"}\n')
    with pytest.raises(UserError, match=r"content of finetune\.dev"):
        tiny_run(tmp_path)
    (tmp_path / "dev.jsonl").unlink()
    tiny_run(tmp_path)
    assert (first / "metrics.json").stat().st_mtime_ns == written


def test_bad_input_is_one_message_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_toy(tmp_path, {"train": 8, "dev": 8, "test": 8})
    electra, modernbert = tiny_folder(tmp_path / "electra", "electra"), tiny_folder(tmp_path / "modern", "modernbert")
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "label": 1}\n{"text": \n')
    bare = tiny_folder(tmp_path / "bare", "electra")
    (bare / "model.safetensors").unlink()
    damaged = tiny_folder(tmp_path / "damaged", "electra")
    (damaged / "model.safetensors").write_bytes(b"\xff" * 64)
    other = tiny_folder(tmp_path / "other", "electra")
    weights = load_file(other / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layer.1" not in k}, other / "model.safetensors", {"format": "pt"})
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (electra, {"finetune.train": "bad.jsonl"}, "bad.jsonl:2: broken JSON"),
        (electra, {"finetune.test": "missing.jsonl"}, "missing.jsonl does not exist"),
        (electra, {"finetune.max_length": 65}, "finetune.max_length 65 is longer than the 64 positions"),
        (electra, {"finetune.name": "../up"}, "names a folder"),
        (electra, {"finetune.lerning_rate": 1}, "unknown key finetune.lerning_rate"),
        (electra, {"finetune.epochs": 0}, "finetune.epochs"),
        (tmp_path, {}, "is no Hugging Face folder"),
        (bare, {}, "has no weights"),
        (damaged, {}, "cannot be loaded by transformers"),
        (other, {}, "16 of its tensors are missing or of another shape, electra.encoder.layer.1."),
    ]
    for export, more, message in cases:
        assert main("finetune", settings(export, **more)) == 2, message
        told = capsys.readouterr().err
        assert message in told
        assert "Traceback" not in told
        assert not (tmp_path / "run").exists()
    assert main("finetune", ["--dry-run", *settings(modernbert, **{"finetune.max_length": 512})]) == 0
    plan = capsys.readouterr().out
    assert "8 texts (negative" in plan
    assert "modernbert" in plan
    assert "its tokenizer says 64 tokens, places beyond may be untrained" in plan
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_last_layer_is_new_and_the_body_is_the_folders(tmp_path: Path, architecture: str) -> None:
    """ModernBERT's detection export has a `classifier` of the same shape: it must not slip into the new task."""
    write_toy(tmp_path, {"train": 8, "dev": 8, "test": 8})
    folder = tiny_folder(tmp_path / "export", architecture)
    run = config(folder)
    task = open_task(run.finetune)
    pretrained = open_pretrained(folder, task, run.finetune)
    model = task.load(pretrained, 0, torch.device("cpu"))
    prefix = f"{model.base_model_prefix}."
    saved = {name.removeprefix(prefix): value for name, value in load_file(folder / "model.safetensors").items()}
    fresh = {name: value for name, value in model.state_dict().items() if name.startswith("classifier.")}
    for name, value in model.state_dict().items():
        if name.startswith(prefix):
            assert torch.equal(value, saved[name.removeprefix(prefix)]), name
    for name, value in fresh.items():
        assert not value.any() if name.endswith("bias") else not torch.equal(value, saved.get(name, value + 1))
    dropouts = [module.p for name, module in model.named_modules() if name in ("dropout", "drop", "classifier.dropout")]
    assert dropouts == [0.1]


@pytest.mark.parametrize("body", ["electra", "modernbert"])
def test_both_our_bodies_and_networks_can_be_fine_tuned(tmp_path: Path, body: str) -> None:
    write_toy(tmp_path, {"train": 8, "dev": 8, "test": 8})
    run = config(tmp_path / "discriminator")
    task = open_task(run.finetune)
    sizes = ModelConfig(body=body, hidden_size=16, layers=2, heads=2, ffn_size=32, max_positions=32)
    objective = build_objective("electra", sizes, objective_class("electra").Config(), len(SPECIAL + WORDS), 0)
    for name, network in objective.networks().items():
        values, state, _ = to_hf(network)
        folder = tmp_path / name
        tiny_tokenizer().save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(values))
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        model = task.load(open_pretrained(folder, task, run.finetune), 0, torch.device("cpu"))
        assert any(key.startswith(f"{model.base_model_prefix}.") for key in state)
        for key, value in model.state_dict().items():
            if key.startswith(f"{model.base_model_prefix}."):
                assert torch.equal(value, state[key]), key
        assert model(torch.tensor([[2, 5, 3]])).logits.shape == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "words"), [("sst2", True), ("chnsenticorp", False)])
def test_real_files_are_taken_as_they_are(tmp_path: Path, real_data: Path, task: str, words: bool) -> None:
    """Whole files are read and checked; a few texts of each are trained on."""
    folder = real_data / "bench" / task
    found = sorted(path.name.partition(".")[0] for path in folder.glob("*.jsonl.zst"))
    whole = {f"finetune.{split}": folder / f"{split}.jsonl.zst" for split in found}
    export = real_folder(tmp_path / "export", folder / "train.jsonl.zst", words)
    plan = dict(finetune.plan(config(export, **({"finetune.test": "null"} | whole))))
    assert plan["labels"] == "2: 0, 1"
    assert plan["train"].startswith({"sst2": "6,920 texts", "chnsenticorp": "6,212 texts"}[task])
    for split in found:
        lines = read_bytes(folder / f"{split}.jsonl.zst").splitlines(keepends=True)[:96]
        (tmp_path / f"{split}.jsonl.zst").write_bytes(zstandard.compress(b"".join(lines)))
    few = {f"finetune.{split}": f"{split}.jsonl.zst" for split in found}
    finetune.run(config(export, **({"finetune.test": "null"} | few), **{"finetune.name": task, "finetune.epochs": 1}))
    results = tmp_path / "run" / "finetune" / task
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["reported_split"] == ("test" if "test" in found else "dev")
    assert metrics["cut"]["dev"] > 0
    assert [row["line"] for row in read_lines(results / "predictions-dev.jsonl")] == list(range(1, 97))


def real_folder(path: Path, train: Path, words: bool) -> Path:
    """A tiny network over the commonest words, or characters, of the training texts."""
    texts = [next(iter(record.values())) for _, record in read_json_lines(train)]
    parts = Counter(part for text in texts for part in (text.split() if words else text))
    tokenizer = tiny_tokenizer([part for part, _ in parts.most_common(4000)], words)
    tiny_model("electra", len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
