"""The embedding model: what sentence-transformers loads, what is measured, what is refused."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch.testing import assert_close

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.batches import collate
from pipeline.tasks.families.base import open_task
from pipeline.tasks.metrics import correlations
from pipeline.tasks.pretrained import open_pretrained
from pipeline.tasks.similarity_metrics import overlap, retrieval_metrics
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, WORDS, tiny_folder

CPU = torch.device("cpu")


def write_pairs(folder: Path, sizes: dict[str, int]) -> None:
    """Both texts good or both bad is 5, else 1, with noise around: words in common say nothing of it."""
    draw = random.Random(0)
    for split, size in sizes.items():
        with open(folder / f"{split}.jsonl", "w") as file:
            for _ in range(size):
                kinds = draw.choice(("good", "bad")), draw.choice(("good", "bad"))
                texts = [" ".join([kind, *draw.choices(WORDS[12:], k=draw.randint(1, 4))]) for kind in kinds]
                row = {"sentence1": texts[0], "sentence2": texts[1], "score": 1 + 4 * (kinds[0] == kinds[1])}
                file.write(json.dumps(row) + "\n")


def settings(folder: Path, **more: Any) -> FinetuneConfig:
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev")}
    return FinetuneConfig(**({"family": "similarity", "max_length": 16} | files | more))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_learns_and_sentence_transformers_loads_it(tmp_path: Path, architecture: str) -> None:
    write_pairs(tmp_path, {"train": 200, "dev": 40})
    task: Any = open_task(settings(tmp_path))
    pretrained = open_pretrained(tiny_folder(tmp_path / "export", architecture), task, task.settings)
    model: Any = task.load(pretrained, 0, CPU)
    assert dict(task.layer_powers(model)).keys() == dict(model.named_parameters()).keys()
    assert set(dict(task.layer_powers(model)).values()) >= {1, 2, 3, 4}
    train, dev = (task.encode(split, pretrained.tokenizer) for split in ("train", "dev"))
    before = task.metrics("dev", answers(task, model, dev))["spearman"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    draw = random.Random(1)
    model.train()
    for _ in range(60):
        chosen = [draw.randrange(200) for _ in range(32)]
        batch = collate([train.rows[index] for index in chosen], 0, {})
        task.loss(model, batch, [train.targets[index] for index in chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
    decided = answers(task, model, dev)
    figures = task.metrics("dev", decided)
    assert figures["spearman"] > max(before + 0.1, 0.6)
    task.save(model, pretrained.tokenizer, tmp_path / "model")

    plain = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    texts = [example.first for example in task.examples["dev"]]
    assert_close(torch.tensor(plain.encode(texts)), torch.stack([answer.first for answer in decided]))
    assert plain.max_seq_length == 16
    literal = plain.tokenizer("[MASK]")["input_ids"]
    assert pretrained.tokenizer.mask_token_id not in literal

    few = tmp_path / "few.jsonl"  # as evaluate opens it: another file, with scores of another range
    few.write_text((tmp_path / "dev.jsonl").read_text().replace("1}", "3}"))
    narrow: Any = type(task).open(task.settings, {"test": few})
    narrow.reload(tmp_path / "model", CPU)
    assert narrow.relevant == task.relevant

    other: Any = open_task(settings(tmp_path))
    reloaded, tokenizer = other.reload(tmp_path / "model", CPU)
    again = answers(other, reloaded, other.encode("dev", tokenizer))
    assert [answer.cosine for answer in again] == [answer.cosine for answer in decided]
    row = other.predictions("dev", again)[0]
    assert row["line"] == 1
    assert row["cosine"] == pytest.approx(decided[0].cosine, abs=1e-6)


def answers(task: Any, model: Any, encoded: Any) -> list[Any]:
    model.eval()
    with torch.no_grad():
        return list(task.outputs(model, collate(encoded.rows, 0, {})))


def test_embedding_is_the_whitened_mean_of_the_tokens(tmp_path: Path) -> None:
    write_pairs(tmp_path, {"train": 150, "dev": 4})
    task: Any = open_task(settings(tmp_path))
    pretrained = open_pretrained(tiny_folder(tmp_path / "export", "bert"), task, task.settings)
    model: Any = task.load(pretrained, 0, CPU)
    train, dev = (task.encode(split, pretrained.tokenizer) for split in ("train", "dev"))

    def mean(ids: list[int]) -> torch.Tensor:
        return model[0].model(torch.tensor([ids])).last_hidden_state.mean(1)[0].detach().double()

    keys = ("input_ids", "pair_input_ids")
    distinct = {tuple(row[key]) for row in train.rows for key in keys}
    before = torch.stack([mean(list(ids)) for ids in sorted(distinct)])
    layer = model[2].linear
    after = torch.nn.functional.linear(before, layer.weight.detach().double(), layer.bias.detach().double())
    spread = [torch.linalg.eigvalsh(torch.cov(vectors.T)) for vectors in (before, after)]
    assert spread[1][-1] / spread[1].mean() < 0.3 * spread[0][-1] / spread[0].mean()
    assert float(after.mean(0).norm()) < 1e-3 * float(after.norm(dim=1).mean())
    assert float(layer.weight.detach().norm()) == pytest.approx(32**0.5, rel=1e-4)

    (answer,) = answers(task, model, type(dev)(dev.rows[:1], dev.targets[:1], [0]))
    first, second = (layer(mean(dev.rows[0][key]).float()).detach() for key in keys)
    assert_close(answer.first, first)
    assert answer.cosine == pytest.approx(float(first @ second / first.norm() / second.norm()), abs=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_regression_over_pairs_loads_as_a_cross_encoder(tmp_path: Path, architecture: str) -> None:
    write_pairs(tmp_path, {"train": 12, "dev": 8})
    task: Any = open_task(settings(tmp_path, family="regression"))
    pretrained = open_pretrained(tiny_folder(tmp_path / "export", architecture), task, task.settings)
    model: Any = task.load(pretrained, 0, CPU).eval()
    torch.nn.init.normal_(next(iter(model.classifier.parameters())))
    encoded = task.encode("dev", pretrained.tokenizer)
    with torch.no_grad():
        outputs = task.outputs(model, collate(encoded.rows, 0, task.pad_values))
    expected = [float(score) for score in task.decide("dev", encoded, outputs)]
    task.save(model, pretrained.tokenizer, tmp_path / "model")
    scorer = CrossEncoder(str(tmp_path / "model"), device="cpu")
    pairs = [(example.text, example.pair) for example in task.examples["dev"]]
    assert_close(
        scorer.predict(pairs, activation_fn=torch.nn.Identity()), np.array(expected, "float32"), rtol=1e-3, atol=1e-4
    )


def test_search_is_measured_as_by_hand() -> None:
    draw = np.random.default_rng(0)
    texts = [(f"q{n % 20}", f"d{n % 25}", n % 3 == 0) for n in range(60)]
    vectors = {name: draw.normal(size=4) for pair in texts for name in pair[:2]}
    first, second = (torch.tensor(np.array([vectors[pair[side]] for pair in texts])).float() for side in (0, 1))
    figures = retrieval_metrics(texts, first, second)
    ranks, recalls = [], []
    corpus = sorted({other for _, other, _ in texts})
    for query in sorted({one for one, _, relevant in texts if relevant}):
        wanted = {other for one, other, relevant in texts if relevant and one == query}
        cosine = {
            d: vectors[query] @ vectors[d] / np.linalg.norm(vectors[query]) / np.linalg.norm(vectors[d]) for d in corpus
        }
        best = sorted(corpus, key=lambda d: -cosine[d])[:10]
        ranks.append(next((1 / place for place, d in enumerate(best, start=1) if d in wanted), 0.0))
        recalls.append(len(wanted & set(best)) / len(wanted))
    assert figures["mrr_10"] == pytest.approx(np.mean(ranks))
    assert figures["recall_10"] == pytest.approx(np.mean(recalls))
    assert 0 < figures["mrr_10"] < 1
    assert retrieval_metrics([("a", "b", False)], first[:1], second[:1]) == {}


def test_correlations_and_overlap() -> None:
    answers, scores = [0.1, 0.4, 0.35, 0.8], [1.0, 3.0, 2.0, 2.5]
    figures = correlations(answers, scores)
    assert figures["pearson"] == pytest.approx(np.corrcoef(answers, scores)[0, 1])
    assert figures["spearman"] == pytest.approx(scipy.stats.spearmanr(answers, scores).statistic)
    assert correlations([0.5, 0.5], [1, 2]) == {"pearson": 0.0, "spearman": 0.0}
    assert overlap(
        [("A cat", "a cat"), ("a cat", "dogs"), ("\u5929\u6c14", "\u5929\u7a7a"), ("...", "x")]
    ) == pytest.approx([1, 0, 0.5, 0])
    assert overlap([("!!", "?? ..."), ("\u3002", "!")]) == [0, 0]


def test_scores_are_scaled_by_the_training_range_and_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text1,text2,score\na,b,1\nc,d,5\n")
    (tmp_path / "dev.csv").write_text("text1,text2,score\na,b,4.5\na,c,6\n")
    files = {split: str(tmp_path / f"{split}.csv") for split in ("train", "dev")}
    task: Any = open_task(FinetuneConfig(family="similarity", max_length=16, **files))
    pretrained = open_pretrained(tiny_folder(tmp_path / "export", "bert"), task, task.settings)
    assert task.encode("dev", pretrained.tokenizer).targets == [0.875, 1.25]
    assert task.relevant == pytest.approx(4.2)
    assert task.plain("dev") == (["a || b", "a || c"], [4.5, 6.0])


def test_a_pair_is_cut_once_and_windows_are_refused(tmp_path: Path) -> None:
    long = "good " * 40
    rows = [(long, long), (long, "bad"), ("bad", long), ("bad", "good")]
    for split in ("train", "dev"):
        lines = (json.dumps({"query": a, "passage": b, "score": n}) for n, (a, b) in enumerate(rows))
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    export = tiny_folder(tmp_path / "export", "bert")
    task = open_task(settings(tmp_path))
    assert task.encode("dev", open_pretrained(export, task, task.settings).tokenizer).cut == 3
    assert dict(task.describe())["fields"] == "text = query, pair = passage, label = score"
    read_whole = settings(tmp_path, long_text="windows")
    with pytest.raises(UserError, match=r"finetune\.long_text windows: the family similarity reads the beginning"):
        open_task(read_whole)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"sentence1": "a", "sentence2": "b"}, "train.jsonl:2: no 'score'"),
        ({"sentence1": "a", "score": 1}, "train.jsonl:2: no .*'sentence2'"),
        ({"sentence1": "a", "sentence2": "b", "score": "much"}, "train.jsonl:2: 'score' is 'much', not a number"),
        ({"sentence1": "a", "sentence2": "b", "score": True}, "train.jsonl:2: 'score' is true or false"),
        ({"sentence1": "a", "sentence2": "b", "score": "nan"}, "train.jsonl:2: 'score' is 'nan', not a finite"),
        ({"sentence1": " ", "sentence2": "b", "score": 1}, "train.jsonl:2: 'sentence1' has no visible"),
        ({"sentence1": "a", "sentence2": "b", "score": 2}, "every score is 2"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    good = {"sentence1": "a", "sentence2": "b", "score": 2}
    (tmp_path / "train.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(record) + "\n")
    (tmp_path / "dev.jsonl").write_text(json.dumps(good) + "\n")
    with pytest.raises(UserError, match=message):
        open_task(settings(tmp_path))


def test_empty_file_and_foreign_folder_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, {"train": 12, "dev": 3})
    task = open_task(settings(tmp_path))
    export = tiny_folder(tmp_path / "export", "bert")
    with pytest.raises(UserError, match="no folder of sentence-transformers"):
        task.reload(export, CPU)
    (export / "modules.json").write_text("[]")
    (export / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        task.reload(export, CPU)
    (tmp_path / "dev.jsonl").write_text("")
    with pytest.raises(UserError, match=r"dev.jsonl holds no record"):
        open_task(settings(tmp_path))
