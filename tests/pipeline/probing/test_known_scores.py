"""What is kept of earlier scores: by set, network, weights and tokenizer; and networks whose numbers are not finite."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import normalizers

from pipeline.base.files import sha256_file, write_json
from pipeline.base.run_folder import RunFolder
from pipeline.command import main
from pipeline.probing.figures import summarise
from pipeline.probing.known import of_networks, united
from pipeline.probing.networks import open_folder
from pipeline.probing.pairs import Pair, PairSet
from pipeline.probing.score_sets import encode_sets, score_sets
from pipeline.release.measured import BEGIN, END
from tests.pipeline.explaining.explained_folders import tiny_generator
from tests.pipeline.tasks.tiny_folders import tiny_folder, tiny_tokenizer

PAIRS = [("good film", "bad film", "one"), ("the plot was w1", "the was plot w1", "discriminator")]
Evaluate = Callable[..., dict[str, Any]]


def other_folder(path: Path, broken: float | None = None) -> Path:
    """A discriminator of other weights. broken: one of its head's."""
    tiny_folder(path, "electra")
    model = transformers.ElectraForPreTraining.from_pretrained(path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-1.5)
        if broken is not None:
            model.discriminator_predictions.dense_prediction.weight[0, 0] = broken
    model.save_pretrained(path)
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """An export of both networks, whose discriminator has a card."""
    run = RunFolder(tmp_path / "run")
    tiny_folder(run.export / "discriminator", "electra")
    tiny_generator(run.export / "generator")
    (run.export / "discriminator" / "README.md").write_text(f"{BEGIN}\n{END}\n")
    files = {"discriminator/README.md": "", "discriminator/model.safetensors": ""}
    write_json(run.export / "export.json", {"files": files})
    return run


@pytest.fixture
def evaluate(run: RunFolder, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Scores PAIRS with these overrides; gives evaluation-pairs.json. All share one store, slow to make."""
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps({"good": g, "bad": b, "phenomenon": p}) + "\n" for g, b, p in PAIRS))
    store = f"tracking.uri=sqlite:///{tmp_path_factory.getbasetemp() / 'mlflow.db'}"

    def command(*overrides: str) -> dict[str, Any]:
        given = [f"run_dir={run.path}", f"evaluate.minimal_pairs=[{file}]", "train.threads=1", store, *overrides]
        assert main("evaluate", given) == 0
        found: dict[str, Any] = json.loads((run.path / "evaluation-pairs.json").read_text())
        return found

    return command


def rows_of(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "evaluation-pairs" / "own.jsonl").read_text().splitlines()]


def card_of(run: RunFolder) -> str:
    return (run.export / "discriminator" / "README.md").read_text()


def test_other_folders_take_no_place_of_the_runs_own(run: RunFolder, evaluate: Evaluate, tmp_path: Path) -> None:
    own, rows = evaluate(), rows_of(run)
    card = card_of(run)
    assert "| discriminator | 1 |" in card
    other = other_folder(tmp_path / "google")
    label = f"discriminator-{sha256_file(other / 'model.safetensors')[:8]}"
    both = evaluate(f"evaluate.discriminator={other}")
    assert both["sets"]["own"]["overall"].keys() == {"discriminator", "generator", label}
    assert of_networks(both["sets"]["own"], ["discriminator", "generator"]) == own["sets"]["own"]
    assert both["networks"] == own["networks"] | {label: both["networks"][label]}
    assert [{key: value for key, value in row.items() if key != label} for row in rows_of(run)] == rows
    assert all(row[label] != row["discriminator"] for row in rows_of(run))
    assert card_of(run) == card
    assert evaluate() == both, "nothing is scored anew"
    assert evaluate(f"evaluate.discriminator={run.export}") == both, "the export as a whole is this run's own"


def test_a_missing_network_keeps_its_figures(run: RunFolder, evaluate: Evaluate) -> None:
    own = evaluate()
    (run.export / "generator").rename(run.path / "aside")
    assert evaluate("evaluate.probes=[bias_zh]")["sets"]["own"] == own["sets"]["own"]
    (run.path / "aside").rename(run.export / "generator")
    assert evaluate("evaluate.probes=[bias_zh]")["sets"]["bias_zh"]["overall"].keys() == {"discriminator", "generator"}
    other_folder(run.export / "discriminator")
    now = evaluate()
    assert now["networks"]["discriminator"] != own["networks"]["discriminator"]
    assert now["sets"]["own"]["overall"]["discriminator"] != own["sets"]["own"]["overall"]["discriminator"]
    assert now["sets"]["own"]["overall"]["generator"] == own["sets"]["own"]["overall"]["generator"]
    assert now["sets"]["bias_zh"]["overall"].keys() == {"generator"}, "the old weights' figures are gone"


def test_a_corrected_tokenizer_scores_anew(run: RunFolder, evaluate: Evaluate) -> None:
    before = evaluate()["sets"]["own"]["overall"]
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("film", "plot")
    tokenizer.save_pretrained(run.export / "discriminator")
    now = evaluate()["sets"]["own"]["overall"]
    assert now["discriminator"] != before["discriminator"]
    assert now["generator"] == before["generator"]


def test_equal_texts_are_a_tie(tmp_path: Path) -> None:
    made = PairSet("made", "here.jsonl", "grammar", [Pair("good film", "good film", "p", 1)])
    folder = open_folder(tiny_folder(tmp_path / "d", "electra"), "discriminator")
    scored = score_sets(folder, [made], encode_sets(folder, [made]), torch.device("cpu"))
    summary = summarise(made, {"discriminator": scored["made"]})
    assert (summary["overall"]["discriminator"]["accuracy"], summary["identical_tokens"]["discriminator"]) == (0.5, 1)
    assert united(summary, summarise(made, {"generator": scored["made"]}))["phenomena"]["p"].keys() == {
        "discriminator",
        "generator",
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_whose_numbers_are_not_finite_is_refused(
    tmp_path: Path, value: float, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """NaN is larger than nothing: the accuracy would be 0."""
    folder = other_folder(tmp_path / "broken", value)
    store = f"tracking.uri=sqlite:///{tmp_path_factory.getbasetemp() / 'mlflow.db'}"
    given = [f"run_dir={tmp_path / 'run'}", f"evaluate.discriminator={folder}", "evaluate.probes=[bias_zh]"]
    assert main("evaluate", [*given, "train.threads=1", store]) == 2
    assert f"evaluate.discriminator: {folder} gives numbers that are not finite" in capsys.readouterr().err
    assert not (tmp_path / "run" / "evaluation-pairs.json").exists()
