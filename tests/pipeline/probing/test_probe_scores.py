"""Scores of texts against a plain loop over single texts, and the stage that makes them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from tokenizers import normalizers

from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.command import main
from pipeline.probing.networks import load_network, open_folder
from pipeline.probing.pairs import Pair, PairSet
from pipeline.probing.score_sets import encode_sets
from pipeline.probing.scores import encode, score_texts
from tests.pipeline.tasks.tiny_folders import tiny_folder, tiny_model, tiny_tokenizer

TEXTS = ["good film", "the very bad plot [MASK] was", "a", "w1 w2 w3 w4 w5 w6 w7 and good"]


def masked_folder(path: Path, architecture: str) -> Path:
    """A masked language model of random weights."""
    config = tiny_model(architecture).config
    torch.manual_seed(1)
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def tagger_folder(path: Path) -> Path:
    """ModernBERT's discriminator as an export has it."""
    model = tiny_model("modernbert")
    model.config.id2label = {0: "original", 1: "replaced"}
    model.config.label2id = {"original": 0, "replaced": 1}
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def scores_of(path: Path, kind: Any, batch_tokens: int) -> list[float]:
    folder = open_folder(path, kind)
    rows, own = encode(folder.tokenizer, TEXTS)
    found = score_texts(folder, load_network(folder, torch.device("cpu")), own, lambda _: None, batch_tokens)
    return [found[row] for row in rows]


@pytest.mark.parametrize("architecture", ["electra", "modernbert"])
def test_discriminator_sums_log_odds_of_original(tmp_path: Path, architecture: str) -> None:
    path = tiny_folder(tmp_path / "d", "electra") if architecture == "electra" else tagger_folder(tmp_path / "d")
    auto = transformers.AutoModelForPreTraining
    model = (auto if architecture == "electra" else transformers.AutoModelForTokenClassification).from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    wanted = []
    for text in TEXTS:
        ids = tokenizer(text, split_special_tokens=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model.eval()(ids).logits[0]
        replaced = torch.sigmoid(logits) if architecture == "electra" else logits.softmax(-1)[:, 1]
        wanted.append(float(((1 - replaced).log() - replaced.log())[1:-1].sum()))
    for batch_tokens in (1, 64):
        assert scores_of(path, "discriminator", batch_tokens) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("architecture", ["electra", "bert", "modernbert"])
def test_generator_sums_log_likelihoods_of_masked_tokens(tmp_path: Path, architecture: str) -> None:
    path = masked_folder(tmp_path / "g", architecture)
    model = transformers.AutoModelForMaskedLM.from_pretrained(path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    wanted = []
    for text in TEXTS:
        ids = tokenizer(text, split_special_tokens=True, return_tensors="pt")["input_ids"]
        total = 0.0
        for place in range(1, ids.shape[1] - 1):
            hidden = ids.clone()
            hidden[0, place] = tokenizer.mask_token_id
            with torch.no_grad():
                total += float(F.log_softmax(model(hidden).logits[0, place], -1)[ids[0, place]])
        wanted.append(total)
    for batch_tokens in (1, 64):
        assert scores_of(path, "generator", batch_tokens) == pytest.approx(wanted, abs=1e-4)


def test_a_text_of_which_the_tokenizer_leaves_nothing_is_refused(tmp_path: Path) -> None:
    path = tiny_folder(tmp_path / "d", "electra")
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\ufffd", "")
    tokenizer.save_pretrained(path)
    pairs = PairSet("made", "here.jsonl", "grammar", [Pair("w1", "w2", "p", 1), Pair("\ufffd", "w1", "p", 2)])
    with pytest.raises(UserError, match=r"^here\.jsonl:2: the tokenizer of .* leaves no token of a text"):
        encode_sets(open_folder(path, "discriminator"), [pairs])


def test_stage_scores_once_and_refuses_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path / "run")
    tiny_folder(run.export / "discriminator", "electra")
    masked_folder(run.export / "generator", "electra")
    file = tmp_path / "own.jsonl"
    lines = [{"good": "good film", "bad": "bad film"}, {"good": "w1", "bad": "[MASK]", "phenomenon": "other"}]
    lines.append({"good": "unseen", "bad": "unknown"})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = [f"run_dir={run.path}", f"evaluate.minimal_pairs=[{file}]", "evaluate.probes=[bias_zh]", "train.threads=1"]
    given.append(f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}")
    assert main("evaluate", ["--dry-run", *given]) == 0
    result = run.path / "evaluation-pairs.json"
    assert not result.exists()
    assert main("evaluate", given) == 0
    sets = json.loads(result.read_text())["sets"]
    assert sets["own"]["identical_tokens"] == {"discriminator": 1, "generator": 1}
    assert list(sets["own"]["phenomena"]) == ["own", "other"]
    assert sets["bias_zh"]["groups"].keys() == {"male", "female"}
    rows = [json.loads(line) for line in (run.path / "evaluation-pairs" / "own.jsonl").read_text().splitlines()]
    assert rows[2]["generator"]["preferred"] == "tie"
    points = {"good": 1.0, "tie": 0.5, "bad": 0.0}
    share = sum(points[row["generator"]["preferred"]] for row in rows) / 3
    assert sets["own"]["overall"]["generator"]["accuracy"] == share
    before = result.stat().st_mtime_ns
    assert main("evaluate", given) == 0
    assert "scored already" in capsys.readouterr().out
    assert result.stat().st_mtime_ns == before
    file.write_text(json.dumps({"good": "w1 " * 80, "bad": "w2"}) + "\n")
    assert main("evaluate", given) == 2
    assert f"{file}:1: a text of 82 tokens" in capsys.readouterr().err
    assert main("evaluate", [*given, f"tracking.uri=sqlite:///{tmp_path / 'unused.db'}"]) == 2
    assert not (tmp_path / "unused.db").exists()
    assert main("evaluate", [*given, "evaluate.generator=nowhere"]) == 2
    assert "evaluate.generator: nowhere is no Hugging Face folder" in capsys.readouterr().err
    assert main("evaluate", [*given, f"evaluate.generator={run.export / 'discriminator'}"]) == 2
    assert "wanted is a masked language model" in capsys.readouterr().err
