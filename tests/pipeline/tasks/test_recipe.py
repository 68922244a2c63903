"""What the defaults come to: rates by the export's size, the figure that chooses, and what is refused beforehand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import UserError
from pipeline.base.journal import Journal
from pipeline.command import main
from pipeline.tasks.families.base import family_class, family_names, open_task
from pipeline.tasks.identity import comparable
from pipeline.tasks.job import encode_splits, fine_tune, finished, never, open_inputs, plan_job
from pipeline.tasks.loop import FineTuning
from pipeline.tasks.recipe import rates_of, settled
from pipeline.tasks.results import summary
from pipeline.tasks.work_folder import WorkFolder
from tests.pipeline.tasks.tiny_folders import tiny_folder


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    rows = [{"text": f"{('good', 'bad')[n % 2]} film w{n}", "label": n % 2} for n in range(16)]
    Path("text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("pair.jsonl").write_text("".join(json.dumps({"src": "the film", "tgt": "good w1"}) + "\n" for _ in range(40)))


def settings(**more: Any) -> list[str]:
    values = {"train": "text.jsonl", "dev": "text.jsonl", "export": "export", "max_length": 16, "name": "toy"} | more
    return ["run_dir=run", "train.threads=1", *(f"finetune.{key}={value}" for key, value in values.items())]


def config(**more: Any) -> RunConfig:
    return settled(load_config(None, settings(**more)))


@pytest.mark.parametrize(
    ("widths", "rates"),
    [((32, 256, 511), (3e-4, 0.8)), ((512, 768, 895), (1e-4, 0.8)), ((896, 1024, 4096), (5e-5, 0.9))],
)
def test_rates_are_those_of_the_papers_nearest_size(widths: tuple[int, ...], rates: tuple[float, float]) -> None:
    """Clark et al. 2020, appendix B: small 3e-4 and 0.8, base 1e-4 and 0.8, large 5e-5 and 0.9."""
    assert {rates_of(width) for width in widths} == {rates}
    transformers.BertConfig(hidden_size=widths[-1], num_attention_heads=1).save_pretrained("export")
    found = config().finetune
    assert (found.lr, found.layer_decay) == rates
    assert comparable(config()) == comparable(config(lr=rates[0], layer_decay=rates[1])) != comparable(config(lr=0.1))
    assert (config(lr=0.1).finetune.lr, config(lr=0.1).finetune.layer_decay) == (0.1, rates[1])


def test_a_result_by_default_is_the_same_as_by_the_values_set(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "export", "electra")
    metrics = fine_tune(config(epochs=1, select="matthews"), Path("toy"), Journal(None))
    assert metrics["settings"]["finetune.lr"] == 3e-4
    assert metrics["settings"]["finetune.layer_decay"] == 0.8
    assert metrics["selection"] == "matthews"
    assert next(iter(metrics)) == "finetune/toy/matthews", "the first figure is what a model card judges by"
    assert summary(metrics).index("matthews") < summary(metrics).index("accuracy")
    same = {"epochs": 1, "select": "matthews"}
    assert finished(config(**same, lr=3e-4, layer_decay=0.8), Path("toy")) == metrics
    with pytest.raises(UserError, match=r"finetune\.lr: 0\.0003 then, 0\.0001 now"):
        finished(config(**same, lr=1e-4), Path("toy"))
    with pytest.raises(UserError, match=r"finetune\.select: matthews then, None now"):
        finished(config(epochs=1, select="accuracy"), Path("toy"))
    Path("export/config.json").unlink()
    Path("export/model.safetensors").unlink()
    assert finished(config(**same), Path("toy")) == metrics, "the export may go"
    assert plan_job(config(**same), Path("toy")) == [("result", "toy (finished: nothing to do)")]


@pytest.mark.parametrize(("select", "best"), [("null", 1), ("matthews", 2), ("f1", 3)])
def test_the_chosen_figure_decides_on_the_epoch(tmp_path: Path, select: str, best: int) -> None:
    tiny_folder(tmp_path / "export", "electra")
    run = config(epochs=3, select=select)
    task, pretrained = open_inputs(run)
    scripted = iter([(0.9, 0.0, 0.1), (0.8, 0.5, 0.2), (0.85, 0.4, 0.3)])
    task.metrics = lambda split, decisions: dict(zip(("accuracy", "matthews", "f1"), next(scripted), strict=True))  # type: ignore[method-assign]
    tuning = FineTuning(task.load(pretrained, 0, torch.device("cpu")), task, encode_splits(task, pretrained), 0)
    outcome = tuning.train(0, lambda step, figures: None, WorkFolder(tmp_path / "toy", {}), never)
    assert outcome.best_epoch == best


@pytest.mark.parametrize("name", family_names())
def test_every_family_can_choose_by_its_own_figures(name: str) -> None:
    family = family_class(name)
    assert family.selectable()[0] == family.selection
    assert "mse" not in family.selectable()
    assert family.shown(None) == family.headline
    last = family.headline[-1]
    assert family.shown(last) == (last, *family.headline[:-1])


GENERATION = {"family": "translation", "train": "pair.jsonl", "dev": "pair.jsonl", "target_vocab_size": 300}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown figure": ({"select": "mathews"}, "it may be accuracy, f1, matthews."),
    "another family's": ({"select": "accuracy", **GENERATION}, "it may be chrf, bleu."),
    "another body's head": ({"head": "mean"}, "finetune.head mean is ModernBERT's, and"),
    "targets too long": ({"max_target_length": 64, **GENERATION}, "positions, but {export} has 64. Set it to 63 or"),
}


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("name", WRONG)
def test_what_a_run_refuses_a_dry_run_does_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, seeds: int
) -> None:
    export = tiny_folder(tmp_path / "export", "electra")
    more, message = WRONG[name]
    arguments = settings(**more, seeds=seeds, export=export)
    for mode in (["--dry-run"], []):
        assert main("finetune", [*mode, *arguments]) == 2
        assert message.format(export=export) in capsys.readouterr().err
        assert not Path("run").exists()


def test_the_advised_length_of_targets_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A decoder reads [CLS] and the target: 63 tokens where there are 64 positions; rotary ones have no end."""
    tiny_folder(tmp_path / "export", "electra")
    tiny_folder(tmp_path / "modern", "modernbert")
    assert main("finetune", ["--dry-run", *settings(**GENERATION, max_target_length=63)]) == 0
    assert main("finetune", ["--dry-run", *settings(**GENERATION, max_target_length=64, export="modern")]) == 0
    told = capsys.readouterr().out
    assert told.count("lr 0.0003, layer_decay 0.8; the best epoch by chrf on dev") == 2
    run = config(**GENERATION, max_target_length=63)
    task, pretrained = open_inputs(run)
    ids = torch.full((1, 64), 5)
    model = task.load(pretrained, 0, torch.device("cpu"))
    assert model(input_ids=ids[:, :8], decoder_input_ids=ids).logits.shape[1] == 64


def test_a_search_cannot_choose_where_nothing_is_to_be_found(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "export", "bert")
    for name, scores in (("train", [0, 5]), ("dev", [0, 3.9])):
        rows = [{"sentence1": "a", "sentence2": "b", "score": score} for score in scores]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = {"family": "similarity", "train": "train.jsonl", "dev": "dev.jsonl"}
    with pytest.raises(UserError, match=r"no pair of finetune\.dev has a score of 4 or more"):
        open_inputs(config(**more, select="mrr_10"))
    open_inputs(config(**more, select="pearson"))
    assert open_task(config(**more).finetune).selection == "spearman"
