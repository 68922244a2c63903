"""One text or two, one answer: heads, pairs, scores, windows of long texts."""

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder
from torch.testing import assert_close

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.journal import Journal
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.batches import collate
from pipeline.tasks.encoding import encode_rows
from pipeline.tasks.families.base import Task, open_task
from pipeline.tasks.heads import ClsHead
from pipeline.tasks.job import fine_tune, plan_job
from pipeline.tasks.pretrained import load_model, open_pretrained, reload_model
from pipeline.tasks.recipe import settled
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, WORDS, tiny_folder, tiny_tokenizer

CPU = torch.device("cpu")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def singles(folder: Path, count: int = 12) -> dict[str, str]:
    rows = [{"text": f"{('good', 'bad')[n % 2]} film w{n}", "label": ("yes", "no")[n % 2]} for n in range(count)]
    return {split: write(folder / f"{split}.jsonl", rows) for split in ("train", "dev")}


def pairs(folder: Path, names: tuple[str, str, str], scores: bool, count: int = 160) -> dict[str, str]:
    """Scores by the kind of each text, the second's counts more; or a label by the second alone."""
    draw, files = random.Random(0), {}
    for split in ("train", "dev"):
        rows = []
        for _ in range(count):
            kinds = [draw.choice(("good", "bad")) for _ in range(2)]
            texts = [" ".join([kind, *draw.choices(WORDS[12:], k=draw.randint(1, 6))]) for kind in kinds]
            first, second = (kind == "good" for kind in kinds)
            answer = 1.5 * first + 3 * second if scores else ("no", "yes")[second]
            rows.append(dict(zip(names, [*texts, answer], strict=True)))
        files[split] = write(folder / f"{split}.jsonl", rows)
    return files


def logits_of(task: Task, model: Any, tokenizer: Any) -> torch.Tensor:
    """Of dev, one row a window."""
    model.eval()
    with torch.no_grad():
        rows = task.encode("dev", tokenizer).rows
        return torch.stack(task.outputs(model, collate(rows, tokenizer.pad_token_id, task.pad_values)))


@pytest.mark.parametrize("head", ["cls", "library"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_saved_gives_the_logits_of_what_was_trained(tmp_path: Path, architecture: str, head: Any) -> None:
    task = open_task(FinetuneConfig(**singles(tmp_path), head=head, max_length=32))
    pretrained = open_pretrained(tiny_folder(tmp_path / "export", architecture), task, task.settings)
    model: Any = task.load(pretrained, 0, CPU)
    assert isinstance(model.classifier, ClsHead) == (architecture == "electra" and head == "cls")
    torch.manual_seed(1)
    for parameter in model.classifier.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    if architecture == "electra":  # vectors far from 0 are taken care of
        torch.nn.init.normal_(model.electra.encoder.layer[-1].output.LayerNorm.bias, std=30)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = logits_of(task, model, pretrained.tokenizer)
    task.save(model, pretrained.tokenizer, tmp_path / "model")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again, tokenizer = task.reload(tmp_path / "model", CPU)
    assert type(again).__module__.startswith("transformers.models.")
    assert_close(logits_of(task, again, tokenizer), expected, rtol=1e-5, atol=1e-4)
    assert again.config.id2label == {0: "no", 1: "yes"}
    classify = transformers.pipeline("text-classification", model=str(tmp_path / "model"), device="cpu")
    (answer,) = classify("good film w0")
    assert answer["score"] == pytest.approx(float(expected[0].softmax(-1).max()), abs=1e-4)
    further = open_pretrained(tmp_path / "model", task, task.settings)
    continued: Any = task.load(further, 0, CPU)
    body = {name: value for name, value in again.state_dict().items() if not name.startswith("classifier.")}
    assert all(torch.equal(continued.state_dict()[name], value) for name, value in body.items())


def test_the_paper_head_is_dropout_and_one_layer_over_cls(tmp_path: Path) -> None:
    task = open_task(FinetuneConfig(**singles(tmp_path), max_length=32))
    pretrained = open_pretrained(tiny_folder(tmp_path / "export", "electra"), task, task.settings)
    model: Any = task.load(pretrained, 0, CPU)
    ids = torch.tensor([[2, 5, 7, 3]])
    model.eval()
    vector = model.electra(ids).last_hidden_state[:, 0]
    by_hand = vector @ model.classifier.out_proj.weight.T + model.classifier.out_proj.bias
    assert_close(model(input_ids=ids).logits, by_hand)
    assert [name for name, _ in model.classifier.named_parameters()] == ["out_proj.weight", "out_proj.bias"]
    assert model.classifier.dropout.p == 0.1
    assert {dict(task.layer_powers(model))[name] for name in ("classifier.out_proj.weight",)} == {0}


@pytest.mark.parametrize(("head", "pooling"), [("cls", "cls"), ("mean", "mean"), ("library", "mean")])
def test_modernbert_reads_what_the_head_says(tmp_path: Path, head: Any, pooling: str) -> None:
    folder = tiny_folder(tmp_path / "export", "modernbert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"classifier_pooling": "mean"}))
    task = open_task(FinetuneConfig(**singles(tmp_path), head=head, max_length=32))
    model: Any = task.load(open_pretrained(folder, task, task.settings), 0, CPU)
    assert model.config.classifier_pooling == pooling


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_random_weights_have_the_shape_alone(tmp_path: Path, architecture: str) -> None:
    folder = tiny_folder(tmp_path / "export", architecture)
    (folder / "model.safetensors").unlink()
    task = open_task(FinetuneConfig(**singles(tmp_path), weights="random", max_length=32))
    pretrained = open_pretrained(folder, task, task.settings)
    assert "random weights" in pretrained.describe(32)
    models = [task.load(pretrained, seed, CPU).state_dict() for seed in (0, 0, 1)]
    matrices = [name for name, value in models[0].items() if value.ndim == 2 and "token_type" not in name]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert not any(torch.equal(models[0][name], models[2][name]) for name in matrices)
    biases = [value for name, value in models[0].items() if name.endswith("bias") and value.is_floating_point()]
    assert not any(value.any() for value in biases)


NAMES = [("sentence1", "sentence2", "label"), ("premise", "hypothesis", "label"), ("text", "text_pair", "label")]


@pytest.mark.parametrize("names", NAMES)
def test_pairs_are_found_by_their_usual_names(tmp_path: Path, names: tuple[str, str, str]) -> None:
    task = open_task(FinetuneConfig(**pairs(tmp_path, names, scores=False, count=12)))
    assert dict(task.describe())["dev"].startswith("12 pairs (")
    tokenizer = tiny_tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    for row in task.encode("dev", tokenizer).rows:
        border = row["input_ids"].index(3) + 1
        assert row["token_type_ids"] == [0] * border + [1] * (len(row["input_ids"]) - border)
        assert row["input_ids"][border:].count(3) == 1


def read_alike(folder: Path, record: dict[str, Any], **more: Any) -> tuple[str, str | None, str]:
    """Both texts of such a record, and what is told of its fields."""
    rows = [record | {"label": label} for label in "xy"]
    train = write(folder / "train.jsonl", rows)
    task = open_task(FinetuneConfig(train=train, dev=write(folder / "dev.jsonl", rows[::-1]), fields=more))
    example = task.examples["dev"][0]
    return example.text, example.pair, dict(task.describe())["fields"]


def test_a_question_beside_a_sentence_or_passage_is_its_pair(tmp_path: Path) -> None:
    qnli = {"index": "i", "question": "q", "sentence": "s"}
    told = "text = question, pair = sentence, label = label; ignored: index"
    assert read_alike(tmp_path, qnli) == read_alike(tmp_path, qnli, pair="sentence") == ("q", "s", told)
    for names in (("query", "passage"), ("question", "passage"), ("s1", "s2")):
        first, second, told = read_alike(tmp_path, dict(zip(names, "ab", strict=True)))
        assert (first, second) == ("a", "b")
        assert told == f"text = {names[0]}, pair = {names[1]}, label = label"


def test_a_question_beside_other_names_is_ignored_and_told(tmp_path: Path) -> None:
    qnli = {"question": "q", "sentence": "s"}
    told = "text = sentence, label = label; ignored: question"
    assert read_alike(tmp_path, qnli, text="sentence") == ("s", None, told)
    told = "text = sentence, pair = question, label = label"
    assert read_alike(tmp_path, qnli, pair="question") == ("s", "q", told)
    told = "text = text, label = label; ignored: question, sentence"
    assert read_alike(tmp_path, {"text": "t"} | qnli) == ("t", None, told)
    told = "text = sentence, pair = text_pair, label = label; ignored: question"
    assert read_alike(tmp_path, qnli | {"text_pair": "t"}) == ("s", "t", told)
    wide = {"text": "t"} | {f"c{n}": "" for n in range(30)}
    assert read_alike(tmp_path, wide)[2].endswith("ignored: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, …")


def test_records_of_unlike_fields_are_told_together(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "x"}, {"sentence": "b", "label": "y", "id": 1}]
    files = {split: write(tmp_path / f"{split}.jsonl", rows) for split in ("train", "dev")}
    told = dict(open_task(FinetuneConfig(**files)).describe())["fields"]
    assert told == "text = text or sentence, label = label; ignored: id"


def test_pairs_by_other_names_and_in_tables(tmp_path: Path) -> None:
    table = tmp_path / "rows.tsv"
    table.write_text("left\tright\tkind\tscore\na film\tgood\tx\t1.5\nbad\tthe plot\ty\t-2\n")
    fields = {"text": "left", "pair": "right", "label": "kind"}
    task = open_task(FinetuneConfig(train=str(table), dev=str(table), fields=fields))
    assert [(e.text, e.pair, e.answer) for e in task.examples["dev"]] == [
        ("a film", "good", "x"),
        ("bad", "the plot", "y"),
    ]
    fields = {"text": "left", "pair": "right"}
    scored = open_task(FinetuneConfig(train=str(table), dev=str(table), family="regression", fields=fields))
    assert [e.answer for e in scored.examples["dev"]] == [1.5, -2.0]


def test_what_makes_no_regression(tmp_path: Path) -> None:
    good = [{"text": "a", "text_pair": "b", "score": n} for n in (1, 2)]
    cases: list[tuple[list[dict[str, Any]], str]] = [
        ([*good, {"text": "a", "text_pair": "b", "score": "much"}], r"dev.jsonl:3: .*'much'"),
        ([*good, {"text": "a", "text_pair": "b", "score": None}], r"dev.jsonl:3: 'score' is null"),
        ([*good, {"text": "a", "text_pair": "b", "score": "1_0"}], r"dev.jsonl:3: 'score' is '1_0', not a number"),
        ([*good, {"text": "a", "text_pair": "b", "score": -1e30}], r"dev.jsonl:3: .* at most 1e\+15 in size"),
        ([*good, {"text": "a", "score": 1}], r"dev.jsonl:3: one text, unlike the records before"),
        ([{"text": "a", "score": 1}], r"train.jsonl has two texts a record, .*dev.jsonl one"),
        ([], r"dev.jsonl holds no record"),
    ]
    train = write(tmp_path / "train.jsonl", good)
    for rows, message in cases:
        with pytest.raises(UserError, match=message):
            open_task(FinetuneConfig(train=train, dev=write(tmp_path / "dev.jsonl", rows), family="regression"))
    same = write(tmp_path / "same.jsonl", good[:1] * 3)
    with pytest.raises(UserError, match=r"same.jsonl: every score is 1"):
        open_task(FinetuneConfig(train=same, dev=train, family="regression"))


def tuned(folder: Path, files: dict[str, str], **more: Any) -> dict[str, Any]:
    """metrics.json of a short fine-tuning into folder/task."""
    values = {"lr": 3e-3, "max_length": 32, "epochs": 6, "batch_size": 16, "export": folder / "export"} | files | more
    settings = [f"finetune.{key}={value}" for key, value in values.items()]
    run = settled(load_config(None, ["train.threads=1", "seed=1", f"run_dir={folder}", *settings]))
    plan = dict(plan_job(run, folder / "task"))
    metrics = fine_tune(run, folder / "task", Journal(None))
    return metrics | {"plan": plan}


def scored(folder: Path, scale: float, shift: float) -> dict[str, str]:
    """Texts whose score is a share of good words, in other units; some are longer than others."""
    draw, rows = random.Random(0), []
    for number in range(48):
        kinds = ["good"] * (number % 5) + ["bad"] * (4 - number % 5)
        text = " ".join([*draw.sample(kinds, 4), *draw.choices(WORDS[12:], k=draw.randint(0, 9))])
        rows.append({"text": text, "score": scale * (number % 5) / 4 + shift})
    folder.mkdir()
    return {split: write(folder / f"{split}.jsonl", rows) for split in ("train", "dev")}


@pytest.mark.parametrize("head", ["cls", "library"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_trained_in_deviations_and_read_and_saved_as_they_are(
    tmp_path: Path, architecture: str, head: Any
) -> None:
    settings = FinetuneConfig(**scored(tmp_path / "data", 100, 20), family="regression", head=head, max_length=32)
    task = open_task(settings).with_training(range(20))
    pretrained = open_pretrained(tiny_folder(tmp_path / "export", architecture), task, settings)
    model: Any = task.load(pretrained, 0, CPU)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = logits_of(task, model, pretrained.tokenizer)
    task.save(model, pretrained.tokenizer, tmp_path / "model")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again, tokenizer = open_task(settings).reload(tmp_path / "model", CPU)
    assert_close(logits_of(task, again, tokenizer), expected, rtol=1e-4, atol=1e-2)
    scores = torch.tensor(task.targets("train"))
    mean, deviation = scores.mean(), scores.std(correction=0)
    assert 20 < mean < 120
    encoded = task.encode("train", tokenizer)
    batch = collate(encoded.rows, 0, task.pad_values)
    with torch.no_grad():
        found = task.loss(model.eval(), batch, encoded.targets)
        assert_close(found, ((again(**batch).logits[:, 0] - scores) / deviation).square().mean(), rtol=1e-3, atol=0)


def test_one_score_for_all_that_are_drawn_is_no_division_by_zero(tmp_path: Path) -> None:
    task = open_task(FinetuneConfig(**scored(tmp_path / "data", 0.3, 0.1), family="regression", max_length=32))
    same = task.with_training(range(0, 15, 5))
    same.load(open_pretrained(tiny_folder(tmp_path / "export", "bert"), same, same.settings), 0, CPU)
    assert (same.center, same.spread) == (pytest.approx(0.1), 1)  # type: ignore[attr-defined]


def test_units_of_scores_do_not_matter(tmp_path: Path) -> None:
    """Windows, subset and early choice included: the same training, and each prediction in the file's units."""
    found = []
    tiny_folder(tmp_path / "export", "electra")
    for name, scale, shift in (("a", 1.0, 0.0), ("b", 100.0, 300.0)):
        files = scored(tmp_path / name, scale, shift)
        more = {"long_text": "windows", "stride": 2, "max_length": 10, "max_train_examples": 40, "epochs": 3}
        metrics = tuned(tmp_path / name, files, family="regression", export=tmp_path / "export", **more)
        lines = (tmp_path / name / "task" / "predictions-dev.jsonl").read_text().splitlines()
        answers = [(json.loads(line)["predicted"] - shift) / scale for line in lines]
        figures = [metrics[f"finetune/classification/{figure}"] for figure in ("spearman", "mse")]
        found.append([figures[0], figures[1] / scale**2, *answers])
    assert_close(torch.tensor(found[1]), torch.tensor(found[0]), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_scores_of_pairs_are_learned_and_read_alike_by_three_libraries(tmp_path: Path) -> None:
    files = pairs(tmp_path, ("sentence1", "sentence2", "score"), scores=True, count=320)
    tiny_folder(tmp_path / "export", "bert")
    metrics = tuned(tmp_path, files, family="regression", epochs=12)
    assert metrics["finetune/classification/spearman"] > 0.7
    assert metrics["finetune/classification/dev/trivial_spearman"] == 0
    assert metrics["finetune/classification/mse"] < metrics["finetune/classification/dev/trivial_mse"]
    rows = [json.loads(line) for line in (tmp_path / "task" / "predictions-dev.jsonl").read_text().splitlines()][:20]
    expected = torch.tensor([row["predicted"] for row in rows])
    encoder = CrossEncoder(str(tmp_path / "task" / "model"), device="cpu")
    scores = torch.tensor(encoder.predict([(row["text"], row["pair"]) for row in rows]))
    assert_close(scores, expected, rtol=0, atol=1e-4)
    score = transformers.pipeline("text-classification", model=str(tmp_path / "task" / "model"), device="cpu")
    for row in rows:
        answer = score({"text": row["text"], "text_pair": row["pair"]})
        assert answer["score"] == pytest.approx(row["predicted"], abs=1e-4)


@pytest.mark.parametrize("stride", [0, 3, 9])
def test_windows_hold_every_token_and_share_as_many_as_asked(stride: int) -> None:
    tokenizer, draw = tiny_tokenizer(), random.Random(stride)
    texts = [" ".join(draw.choices(WORDS, k=count)) for count in (1, 10, 11, 57, 300)]
    rows, owners, cut = encode_rows(tokenizer, texts, None, 12, stride)
    assert cut == []
    assert owners == sorted(owners)
    for place, text in enumerate(texts):
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        windows = [row["input_ids"] for row, owner in zip(rows, owners, strict=True) if owner == place]
        assert all(window[0] == 2 and window[-1] == 3 and len(window) <= 12 for window in windows)
        joined = windows[0][1:-1]
        for before, window in pairwise(windows):
            assert before[1:-1][len(before) - 2 - stride :] == window[1 : 1 + stride]
            joined += window[1 + stride : -1]
        assert joined == whole
    with pytest.raises(UserError, match=r"finetune.stride 10 leaves no room .* Set it below 10"):
        encode_rows(tokenizer, texts, None, 12, 10)


def test_windows_of_a_pair_run_over_its_longer_text() -> None:
    tokenizer = tiny_tokenizer()
    short, long, both = "good film", " ".join(WORDS[12:42]), " ".join(["plot"] * 30)
    texts, others = [short, long, both, short], [long, short, long, short]
    rows, owners, cut = encode_rows(tokenizer, texts, others, 16, 4)
    ids = {word: tokenizer(word, add_special_tokens=False)["input_ids"] for word in (short, long)}
    assert cut == [2]
    assert [owners.count(place) for place in range(4)] == [4, 4, 1, 1]
    for row, owner in zip(rows, owners, strict=True):
        border = row["input_ids"].index(3)
        sides = row["input_ids"][1:border], row["input_ids"][border + 1 : -1]
        if owner < 2:
            assert sides[owner] == ids[short]
            assert set(sides[1 - owner]) <= set(ids[long])
    assert encode_rows(tokenizer, texts, others, 16, None)[2] == [0, 1, 2]


def test_windows_are_pooled_as_by_hand(tmp_path: Path) -> None:
    logits = torch.tensor([[0.0, 1.0], [4.0, -4.0], [0.0, 3.0]])
    chances = logits.double().softmax(-1)
    mean, surest = (
        open_task(FinetuneConfig(**singles(tmp_path), pooling=pooling)).pool(logits) for pooling in ("mean", "max")
    )
    product = chances.prod(0) ** (1 / 3)
    assert_close(mean.exp(), product / product.sum())
    assert_close(surest.exp(), chances[1])


@pytest.mark.slow
def test_a_document_of_50_000_words_is_read_whole_in_small_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its label hangs on words throughout; no batch is larger than a short text's would be."""
    draw = random.Random(0)

    def document(kind: str, words: int) -> dict[str, Any]:
        return {"text": " ".join(draw.choices([*WORDS[12:], *[kind] * 10], k=words)), "label": kind}

    files = {
        "train": write(tmp_path / "train.jsonl", [document(("good", "bad")[n % 2], 600) for n in range(24)]),
        "dev": write(tmp_path / "dev.jsonl", [document("good", 50_000), document("bad", 300)]),
    }
    tiny_folder(tmp_path / "export", "electra")
    shapes = set()
    forward = transformers.ElectraModel.forward

    def noted(self: Any, input_ids: torch.Tensor, **more: Any) -> Any:
        shapes.add(tuple(input_ids.shape))
        return forward(self, input_ids, **more)

    monkeypatch.setattr(transformers.ElectraModel, "forward", noted)
    metrics = tuned(tmp_path, files, long_text="windows", stride=8, epochs=2, max_length=64, batch_size=8)
    assert max(shape[0] for shape in shapes) == 8
    assert max(shape[1] for shape in shapes) == 64
    assert metrics["finetune/classification/accuracy"] == 1.0
    assert metrics["cut"] == {"train": 0, "dev": 0}
    assert metrics["rows"]["dev"] == 926 + 6  # 62 tokens a window, 54 of them new
    assert metrics["plan"]["rows of 64 tokens"] == f"train {metrics['rows']['train']:,}, dev 932"


def test_a_folder_that_is_not_fine_tuned_is_not_evaluated(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "export", "electra")
    with pytest.raises(UserError, match=r"is not fine-tuned for this task: it has no classifier\."):
        reload_model(folder, "AutoModelForSequenceClassification", CPU)
    task = open_task(FinetuneConfig(**singles(tmp_path), max_length=32))
    pretrained = open_pretrained(folder, task, task.settings)
    assert load_model(pretrained, "AutoModel", None, 0, CPU).config.model_type == "electra"
