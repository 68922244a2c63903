"""Translation and summarisation: what is learned, saved, generated, counted and refused."""

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.testing import assert_close

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.command import main
from pipeline.tasks.batches import collate
from pipeline.tasks.families.base import Encoded, open_task
from pipeline.tasks.pretrained import Pretrained, open_pretrained
from pipeline.tasks.seq2seq_metrics import translation_metrics
from pipeline.tasks.seq2seq_vocabulary import train_target_vocabulary
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, WORDS, tiny_folder

CPU = torch.device("cpu")
FAMILIES = ("translation", "summarisation")


def write_pairs(folder: Path, sizes: dict[str, int]) -> None:
    """The target is the source without w0 to w39, in order."""
    draw = random.Random(0)
    for split, size in sizes.items():
        with open(folder / f"{split}.jsonl", "w") as file:
            for _ in range(size):
                words = draw.choices(WORDS[:6], k=draw.randint(1, 3))
                noise = [f"w{draw.randrange(40)}" for _ in range(draw.randint(0, 3))]
                file.write(json.dumps({"src": " ".join(noise + words), "tgt": " ".join(words)}) + "\n")


def settings(folder: Path, family: str, **more: Any) -> FinetuneConfig:
    values: dict[str, Any] = {"family": family, "max_length": 16, "max_target_length": 12, "target_vocab_size": 320}
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev")}
    return FinetuneConfig(**(values | files | more))


def opened(folder: Path, family: str, architecture: str, **more: Any) -> tuple[Any, Pretrained]:
    task = open_task(settings(folder, family, **more))
    return task, open_pretrained(tiny_folder(folder / "export", architecture), task, task.settings)


def padded(encoded: Encoded, chosen: Any) -> dict[str, torch.Tensor]:
    return collate([encoded.rows[index] for index in chosen], 0, {})


def learn(task: Any, model: Any, encoded: Encoded, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    draw, losses = random.Random(1), []
    model.train()
    for _ in range(steps):
        chosen = [draw.randrange(len(encoded.rows)) for _ in range(32)]
        loss = task.loss(model, padded(encoded, chosen), [encoded.targets[index] for index in chosen])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_learns_and_the_folder_alone_generates_the_same(tmp_path: Path, family: str, architecture: str) -> None:
    write_pairs(tmp_path, {"train": 200, "dev": 12})
    task, pretrained = opened(tmp_path, family, architecture)
    model = task.load(pretrained, 0, CPU)
    losses = learn(task, model, task.encode("train", pretrained.tokenizer), 40)
    assert losses[-1] < 0.5 * losses[0]
    dev = task.encode("dev", pretrained.tokenizer)
    with torch.no_grad():
        answers = task.outputs(model, padded(dev, range(12)))
    assert any(answers)
    task.save(model, pretrained.tokenizer, tmp_path / "model")

    plain = transformers.EncoderDecoderModel.from_pretrained(tmp_path / "model").eval()
    source = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    place = tmp_path / "model" / "target_tokenizer"
    target = transformers.AutoTokenizer.from_pretrained(place if family == "translation" else tmp_path / "model")
    texts = [example.source for example in task.examples["dev"]]
    inputs = source(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    assert plain.generation_config.num_beams == 4
    written = target.batch_decode(plain.generate(**inputs), skip_special_tokens=True)
    assert [text.strip() for text in written] == answers

    other = open_task(task.settings)  # as evaluate does it
    reloaded, tokenizer = other.reload(tmp_path / "model", CPU)
    again = other.encode("dev", tokenizer)
    assert list(again.targets) == list(dev.targets)
    with torch.no_grad():
        assert other.outputs(reloaded, padded(again, range(12))) == answers
        alone = [other.outputs(reloaded, padded(again, [index]))[0] for index in range(12)]
    assert alone == answers  # padding changes nothing


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_is_that_of_each_pair_alone(tmp_path: Path, architecture: str) -> None:
    write_pairs(tmp_path, {"train": 8, "dev": 1})
    task, pretrained = opened(tmp_path, "summarisation", architecture)
    model = task.load(pretrained, 0, CPU).eval()
    encoded = task.encode("train", pretrained.tokenizer)
    together = task.loss(model, padded(encoded, range(8)), list(encoded.targets))
    total, tokens = 0.0, 0
    for row, target in zip(encoded.rows, encoded.targets, strict=True):
        labels = torch.tensor([target])
        alone = model(input_ids=torch.tensor([row["input_ids"]]), labels=labels).loss  # the library's own shift
        total, tokens = total + float(alone.detach()) * len(target), tokens + len(target)
        assert target[-1] == pretrained.tokenizer.sep_token_id
    assert_close(float(together.detach()), total / tokens, rtol=1e-4, atol=1e-4)


def test_greedy_while_watched_and_beams_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path, {"train": 20, "dev": 2})
    task, pretrained = opened(tmp_path, "summarisation", "bert", beams=3)
    model = task.load(pretrained, 0, CPU).eval()
    seen: list[Any] = []
    monkeypatch.setattr(
        model, "generate", lambda **given: seen.append(given["generation_config"]) or torch.tensor([[2]])
    )
    batch = padded(task.encode("dev", pretrained.tokenizer), [0])
    for task.quick in (True, False):
        task.outputs(model, batch)
    assert [(search.num_beams, search.use_cache, search.max_length) for search in seen] == [
        (1, True, 13),
        (3, True, 13),
    ]


def test_decoder_learns_at_full_rate_and_the_encoder_by_layers(tmp_path: Path) -> None:
    write_pairs(tmp_path, {"train": 20, "dev": 2})
    for architecture in ARCHITECTURES:
        task, pretrained = opened(tmp_path, "summarisation", architecture)
        model = task.load(pretrained, 0, CPU)
        powers = dict(task.layer_powers(model))
        assert powers.keys() == dict(model.named_parameters()).keys()
        assert {power for name, power in powers.items() if name.startswith("decoder.")} == {0}
        tops = {power for name, power in powers.items() if ".layer.2." in name or ".layers.2." in name}
        assert tops == {0, 1}  # of the decoder, of the encoder
        assert {power for name, power in powers.items() if name.startswith("encoder.embeddings")} == {4}


def test_long_texts_are_cut_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {"source": " ".join(["good"] * 30), "target": " ".join(["bad"] * 30)}
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"source": "a", "target": "the"}))
    task, pretrained = opened(tmp_path, "summarisation", "bert")
    with caplog.at_level("INFO"):
        encoded = task.encode("train", pretrained.tokenizer)
    assert encoded.cut == 1
    assert "1 targets are longer than finetune.max_target_length 12" in caplog.text
    assert [len(row["input_ids"]) for row in encoded.rows] == [16, 3]
    assert list(map(len, encoded.targets)) == [12, 2]
    assert [target[-1] for target in encoded.targets] == [3, 3]


def test_target_vocabulary_is_lowered_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path, {"train": 50, "dev": 2})
    task, pretrained = opened(tmp_path, "translation", "bert", target_vocab_size=4000)
    with caplog.at_level("INFO"):
        tokenizer = task.target_tokenizer(pretrained.tokenizer)
    assert 262 < len(tokenizer) < 400
    assert f"finetune.target_vocab_size is {len(tokenizer)} instead of 4000" in caplog.text
    text = "good film \u00e4\u4e2d!"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text
    fewer = task.with_training(range(10))
    assert fewer.target is None
    assert task.target is tokenizer
    assert len(fewer.examples["train"]) == 10


def test_a_target_vocabulary_that_is_too_small_names_its_own_key() -> None:
    with pytest.raises(UserError) as told:
        train_target_vocabulary(["the king sings", "a wing"], 262, 16)
    found = re.fullmatch(r"finetune.target_vocab_size 262 is too small: .* Set it to (\d+) or more\.", str(told.value))
    assert found
    assert len(train_target_vocabulary(["the king sings", "a wing"], int(found[1]), 16)[0]) == int(found[1])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"src": "a good film"}, r"train.jsonl:2: no 'target'"),
        ({"tgt": "a good film"}, r"train.jsonl:2: no 'source'"),
        ({"src": "a", "tgt": "  "}, r"train.jsonl:2: 'tgt' has no visible character"),
        ({"src": "", "tgt": "a"}, r"train.jsonl:2: 'src' has no visible character"),
        ({"src": "a", "tgt": 3}, r"train.jsonl:2: 'tgt' is a number"),
        ({"src": "a", "tgt": "b", "references": "c"}, r"train.jsonl:2: 'references' .* list of strings"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    write_pairs(tmp_path, {"train": 1, "dev": 1})
    with open(tmp_path / "train.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")
    with pytest.raises(UserError, match=message):
        open_task(settings(tmp_path, "translation"))


def test_empty_file_and_foreign_folder_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, {"train": 1, "dev": 1})
    task, _ = opened(tmp_path, "translation", "bert")
    (tmp_path / "dev.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"dev.jsonl holds no record"):
        open_task(settings(tmp_path, "translation"))
    with pytest.raises(UserError):
        task.reload(tmp_path / "export", CPU)


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_are_refused(tmp_path: Path, family: str) -> None:
    write_pairs(tmp_path, {"train": 1, "dev": 1})
    with pytest.raises(UserError, match=rf"finetune\.long_text windows: the family {family} reads the beginning"):
        opened(tmp_path, family, "bert", long_text="windows")


def test_several_references_baselines_and_predictions(tmp_path: Path) -> None:
    document = {"document": "the plot was very bad and the film", "summary": "bad plot", "references": ["the plot", ""]}
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(document) + "\n")
    task = open_task(settings(tmp_path, "summarisation"))
    figures = task.metrics("dev", ["the plot"])
    assert figures["rouge_1"] == 0.5
    assert figures["rouge_1_multi"] == 1.0
    assert math.isclose(task.baseline("dev")["rouge_1_multi"], 1.0)  # its first two words
    (row,) = task.predictions("dev", ["x"])
    assert row == {
        "line": 1,
        "source": document["document"],
        "target": "bad plot",
        "references": ["the plot"],
        "generated": "x",
    }
    assert "with other references" in dict(task.describe())["dev"]
    assert task.facts().keys() == {"rouge_tokenizer", "rouge_tokenizer_multi"}
    translation = open_task(settings(tmp_path, "translation"))
    assert translation.metrics("dev", ["bad plot"])["chrf"] == 100
    assert translation.facts()["bleu_signature"].startswith("nrefs:1|")
    assert translation.facts()["bleu_signature_multi"].startswith("nrefs:2|")
    assert 0 < translation.baseline("dev")["chrf"] < 100


@pytest.mark.slow
def test_stage_reports_signatures_and_refuses_bad_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path, {"train": 48, "dev": 6, "test": 5})
    tiny_folder(tmp_path / "export", "modernbert")
    values = {
        "name": "t",
        "family": "translation",
        "export": "export",
        "epochs": 2,
        "beams": 2,
        "target_vocab_size": 320,
    }
    values |= {"max_length": 16, "max_target_length": 12} | {
        split: f"{split}.jsonl" for split in ("train", "dev", "test")
    }
    arguments = ["run_dir=run", "train.threads=1", *(f"finetune.{key}={value}" for key, value in values.items())]
    assert main("finetune", arguments) == 0
    folder = tmp_path / "run" / "finetune" / "t"
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = [json.loads(line) for line in (folder / "predictions-test.jsonl").read_text().splitlines()]
    assert len(rows) == 5
    assert all(row["generated"] for row in rows)  # never nothing
    again, told = translation_metrics([row["generated"] for row in rows], [(row["target"],) for row in rows])
    assert metrics["finetune/t/test/bleu"] == pytest.approx(again["bleu"])
    assert metrics["finetune/t/chrf"] == pytest.approx(again["chrf"])
    assert metrics["bleu_signature"] == told["bleu_signature"]
    assert metrics["decoder_pieces"] >= 5
    (tmp_path / "dev.jsonl").write_text('{"src": "good"}\n')
    assert main("finetune", [*arguments, "finetune.name=other"]) == 2
    assert not (folder.parent / "other").exists()
