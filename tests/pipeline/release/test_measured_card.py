"""The measured part of a model card: from the run's own records alone, "not measured" where there are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.files import sha256_file, write_json
from pipeline.base.run_folder import RunFolder
from pipeline.release.markdown import table
from pipeline.release.measured import BEGIN, END
from pipeline.release.refresh import refresh_cards

CHECKPOINT = "c" * 64


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """An export of one network whose card has only its head and its end."""
    run = RunFolder(tmp_path)
    card = run.export / "discriminator" / "README.md"
    card.parent.mkdir(parents=True)
    (card.parent / "model.safetensors").write_bytes(b"weights")
    card.write_text(f"head\n\n{BEGIN}\n{END}\n\ntail\n")
    run.manifest.parent.mkdir(parents=True, exist_ok=True)
    run.manifest.write_text("{}")
    mark = {"checkpoint": "step-00000012", "checkpoint_sha256": CHECKPOINT, "tokens_seen": 500}
    mark |= {"data_manifest_sha256": sha256_file(run.manifest)}
    files = {"discriminator/README.md": sha256_file(card), "discriminator/model.safetensors": "w"}
    write_json(run.export / "export.json", {**mark, "files": files})
    return run


def card_of(run: RunFolder) -> str:
    refresh_cards(run)
    return (run.export / "discriminator" / "README.md").read_text()


def section(card: str, title: str) -> str:
    return card.partition(f"## {title}\n")[2].partition("\n## ")[0]


def write_pairs(run: RunFolder, weights: str) -> None:
    def figure(accuracy: float) -> dict[str, Any]:
        low, high = accuracy - 0.05, accuracy + 0.05
        return {
            "discriminator": {
                "pairs": 100,
                "accuracy": accuracy,
                "low": low,
                "high": high,
                "mean_difference": 0.5,
                "standard_error": 0.1,
            }
        }

    grammar = {"kind": "grammar", "overall": figure(0.6), "phenomena": {"easy": figure(0.8), "hard": figure(0.4)}}
    bias = {"kind": "bias", "overall": figure(0.7), "phenomena": {"nurse": figure(0.9)}}
    bias["groups"] = {"male": figure(0.6), "female": figure(0.8)}
    networks = {"discriminator": {"weights": weights}}
    write_json(run.path / "evaluation-pairs.json", {"networks": networks, "sets": {"g": grammar, "b": bias}})


def test_markup_in_names_is_text_of_the_card(folder: RunFolder) -> None:
    """A name that spells the end of the measured part would cut it at the next refresh."""
    write_pairs(folder, sha256_file(folder.export / "discriminator" / "model.safetensors"))
    path = folder.path / "evaluation-pairs.json"
    hostile = f"<b>a|b</b> & {END} `{END}`"
    path.write_text(path.read_text().replace('"hard"', json.dumps(hostile)).replace('"nurse"', json.dumps(hostile)))
    card = card_of(folder)
    assert "| &lt;b>a\\|b&lt;/b> &amp; &lt;!-- measured: end --> `&lt;!--" in section(card, "Minimal pairs")
    assert "strongest stereotypes: &lt;b>a|b&lt;/b> &amp; " in section(card, "Bias: gender and occupation")
    assert "`g`: &lt;b>a|b" in section(card, "Known failures")
    assert card.count(END) == 1
    assert refresh_cards(folder) == []
    assert table(("`a&b`", "a&lt;"), []).startswith("| `a&b` | a&amp;lt; |"), "in code an entity would be shown"


def write_task(run: RunFolder, name: str, accuracy: float, **more: Any) -> None:
    prefix = f"finetune/{name}"
    metrics = {f"{prefix}/accuracy": accuracy, f"{prefix}/test/trivial_accuracy": 0.6, "reported_split": "test"}
    weights = sha256_file(run.export / "discriminator" / "model.safetensors")
    metrics |= {"name": name, "examples": {"train": 9}, "inputs": {"finetune.export": weights}}
    (run.finetune / name).mkdir(parents=True)
    write_json(run.finetune / name / "metrics.json", {**metrics, **more})


def test_nothing_measured_is_said(folder: RunFolder) -> None:
    card = card_of(folder)
    assert card.startswith("head\n\n<!--")
    assert card.endswith("-->\n\ntail\n")
    for title in ("Evaluation", "Minimal pairs", "Bias: gender and occupation", "Fine-tuned tasks", "Corpus"):
        assert section(card, title).strip().startswith("Not measured"), title
    assert "Not measured, so nothing is known: minimal pairs, bias, fine-tuned tasks." in section(
        card, "Known failures"
    )
    mark = json.loads((folder.export / "export.json").read_text())
    assert mark["files"]["discriminator/README.md"] == sha256_file(folder.export / "discriminator" / "README.md")
    assert refresh_cards(folder) == []


def test_records_are_shown(folder: RunFolder) -> None:
    write_pairs(folder, sha256_file(folder.export / "discriminator" / "model.safetensors"))
    figures = {"checkpoint_sha256": CHECKPOINT, "sequences": 24, "eval/discriminator/auc": 0.75}
    write_json(folder.path / "evaluation.json", figures)
    one = {"input": "a|b.jsonl", "documents": 3, "characters": 40}
    corpus = {"documents": 3, "characters": 40, "tokens": 100, "dropped": 1, "dropped_by_reason": {"broken JSON": 1}}
    write_json(folder.statistics, {**corpus, "inputs": [one], "scripts": {"Latin": 0.9, "Han": 0.1}})
    write_task(folder, "good", 0.9, settings={"finetune.weights": "pretrained", "finetune.lr": 1})
    write_task(folder, "control", 0.7, settings={"finetune.weights": "random", "finetune.lr": 1})
    seeds = {"finetune/weak/accuracy/std": 0.02, "seeds": [0, 1], "finetune/weak/test/bag_of_words_accuracy": 0.55}
    write_task(folder, "weak", 0.58, **seeds)
    card = card_of(folder)
    assert "| `eval/discriminator/auc` | 0.7500 |" in section(card, "Evaluation")
    assert "| hard | 100 | 0.400 | 0.350 to 0.450 |" in section(card, "Minimal pairs")
    assert "| women expected | 100 | 0.800 |" in section(card, "Bias: gender and occupation")
    tasks = section(card, "Fine-tuned tasks")
    assert "| `good` | test | 9 | accuracy | 0.9000 | 0.6000 | not measured | 0.7000 |" in tasks
    assert "| `weak` | test | 9 | accuracy | 0.5800 ± 0.0200, 2 seeds | 0.6000 | 0.5500 | not measured |" in tasks
    assert "`control`" not in tasks
    assert "Latin 90.0%, Han 10.0%" in section(card, "Corpus")
    assert "passes over it | 5.00" in section(card, "Corpus")
    assert "| `a\\|b.jsonl` | 3 | 40 | 100.0% |" in section(card, "Corpus")
    failures = section(card, "Known failures")
    assert "No better than chance on these phenomena of `g`: hard (0.40)" in failures
    assert "Follows gender stereotypes of `b` (0.70 of the pairs)" in failures
    assert "Task `weak`, test: accuracy 0.580 is no better than the trivial answer (0.600)." in failures
    assert "`good`" not in failures
    assert "nothing is known" not in failures


def write_evaluation(run: RunFolder, task: str, file: str, data: str, accuracy: float, **more: Any) -> None:
    """evaluation-FILE.json of the model in the task's folder as it is now."""
    model = run.finetune / task / "model" / "model.safetensors"
    model.parent.mkdir(exist_ok=True)
    model.write_bytes(task.encode())
    found = {"data_sha256": data, "model_sha256": sha256_file(model), "read": {"stride": 8, "batch_size": 4}}
    found |= {"metrics": {"accuracy": accuracy, "loss": 0.5}, "trivial": {"accuracy": 0.6}}
    write_json(run.finetune / task / f"evaluation-{file}.json", found | more)


def test_files_that_a_task_was_evaluated_on_are_shown(folder: RunFolder) -> None:
    """Beside random weights' figures on the same content only; none of a model that is there no more."""
    settings = {"finetune.weights": "pretrained", "finetune.stride": 8}
    write_task(folder, "good", 0.9, settings=settings)
    write_task(folder, "control", 0.7, settings=settings | {"finetune.weights": "random"})
    write_evaluation(folder, "good", "test", "t", 0.55)
    write_evaluation(folder, "good", "new", "n", 0.8, read={"stride": 4, "batch_size": 1})
    write_evaluation(folder, "good", "stale", "s", 0.99, model_sha256="0" * 64)
    write_evaluation(folder, "control", "test", "t", 0.5)
    write_evaluation(folder, "control", "new", "n", 0.4)
    write_task(folder, "many", 0.9, **{"seeds": [3, 4], "finetune/many/accuracy/std": 0.01})
    digests = {}
    for seed in ("seed-3", "seed-4"):
        model = folder.finetune / "many" / seed / "model" / "model.safetensors"
        model.parent.mkdir(parents=True)
        model.write_bytes(seed.encode())
        digests[seed] = sha256_file(model)
    joint = {"models_sha256": digests, "seeds": [3, 4], "metrics": {"accuracy": 0.7}, "trivial": {"accuracy": 0.6}}
    write_json(folder.finetune / "many" / "evaluation-test.json", joint | {"spread": {"accuracy": {"std": 0.03}}})
    write_json(folder.finetune / "many" / "evaluation-old.json", joint | {"models_sha256": digests | {"seed-4": "0"}})
    card = card_of(folder)
    tasks = section(card, "Fine-tuned tasks")
    assert "| `good` | file `test` | 9 | accuracy | 0.5500 | 0.6000 | not measured | 0.5000 |" in tasks
    assert "| `good` | file `new`, stride 4 | 9 | accuracy | 0.8000 | 0.6000 | not measured | not measured |" in tasks
    assert "| `many` | test | 9 | accuracy | 0.9000 ± 0.0100, 2 seeds |" in tasks
    assert "| `many` | file `test` | 9 | accuracy | 0.7000 ± 0.0300, 2 seeds | 0.6000 |" in tasks
    assert "stale" not in tasks
    assert "`old`" not in tasks
    told = "Task `good`, file `test`: accuracy 0.550 is no better than the trivial answer (0.600)."
    assert told in section(card, "Known failures")


def test_a_continued_runs_corpus_is_not_all_that_it_saw(folder: RunFolder) -> None:
    write_json(folder.statistics, {"documents": 3, "characters": 40, "tokens": 100})
    said = "what its first weights were trained on before (see Origin) is not counted here"
    assert said not in section(card_of(folder), "Corpus")
    mark = json.loads((folder.export / "export.json").read_text())
    write_json(folder.export / "export.json", mark | {"init_checkpoint_sha256": "e" * 64})
    assert said in section(card_of(folder), "Corpus")


def test_records_of_other_weights_and_damaged_ones_are_left_out(folder: RunFolder) -> None:
    before = card_of(folder)
    write_pairs(folder, "0" * 64)
    write_json(folder.path / "evaluation.json", {"checkpoint_sha256": "0" * 64, "eval/discriminator/auc": 0.75})
    write_task(folder, "other", 0.9, inputs={"finetune.export": "0" * 64})
    (folder.finetune / "other" / "broken").mkdir()
    (folder.finetune / "other" / "broken" / "metrics.json").write_text('{"half')
    assert card_of(folder) == before
    (folder.path / "evaluation-pairs.json").write_text("[]")
    assert card_of(folder) == before


def test_a_folder_that_is_not_ours_stays(folder: RunFolder) -> None:
    card = folder.export / "discriminator" / "README.md"
    card.write_text("a card by hand")
    assert card_of(folder) == "a card by hand"
    (folder.export / "export.json").unlink()
    assert refresh_cards(folder) == []
