"""Two texts that go together: what is read of them, what their tokens add, and what page and JSON make of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FieldsConfig, FinetuneConfig
from pipeline.explaining.classifier import decide, load_classifier, open_classifier
from pipeline.explaining.rows import readings, row_of
from pipeline.explaining.tokens import room_of, tokenize_together
from pipeline.stages import explain
from pipeline.tasks.batches import collate
from pipeline.tasks.encoding import encode_rows
from pipeline.tasks.finished import open_finished
from tests.pipeline.explaining.explained_folders import (
    all_folders,
    explain_config,
    fine_tuned,
    tiny_classifier,
    with_types,
)
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, tiny_tokenizer

CPU = torch.device("cpu")
FIRST, SECOND = "the very good film was a bad plot", "a good plot"
TOKENIZERS = [tiny_tokenizer(), with_types(tiny_tokenizer())]


def words(count: int, start: int = 0) -> str:
    return " ".join(f"w{(start + i) % 40}" for i in range(count))


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["without types", "with types"])
@given(st.integers(1, 40), st.none() | st.integers(1, 40), st.integers(9, 24), st.none() | st.integers(0, 4))
def test_rows_are_those_of_fine_tuning(
    tokenizer: Any, first: int, second: int | None, longest: int, stride: int | None
) -> None:
    texts = [words(first)] if second is None else [words(first), words(second, 7)]
    tokens = tokenize_together(tokenizer, texts, "here")
    read = readings([len(text.ids) for text in tokens], room_of(tokens, longest), stride)
    rows = [row_of(tokens, reading) for reading in read]
    expected, *_ = encode_rows(tokenizer, texts[:1], texts[1:] or None, longest, stride)
    assert [row.ids for row in rows] == [row["input_ids"] for row in expected]
    assert [row.types for row in rows] == [row.get("token_type_ids") for row in expected]
    if second is not None and tokenizer is TOKENIZERS[1]:
        assert all(set(row.types or ()) == {0, 1} for row in rows)
    assert all((token in (2, 3)) == flag for row in rows for token, flag in zip(row.ids, row.special, strict=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attributions_are_a_riemann_sum(tmp_path: Path, architecture: str) -> None:
    """Of the gradients by the embeddings, at the middles of 2,000 pieces of the way from the baseline."""
    classifier = open_classifier(tiny_classifier(tmp_path / "model", architecture))
    model = load_classifier(classifier, CPU)
    decision = decide(classifier, model, tokenize_together(classifier.tokenizer, [FIRST, SECOND], "here"), 60)
    inputs = classifier.tokenizer(FIRST, SECOND, return_tensors="pt")
    assert ("token_type_ids" in inputs) == (architecture != "modernbert")
    ids = inputs.pop("input_ids")
    with torch.no_grad():
        logits = model(input_ids=ids, **inputs).logits[0]
    assert decision.outputs == pytest.approx(logits.softmax(-1).tolist(), abs=1e-6)
    special = (ids == 2) | (ids == 3)
    table = model.get_input_embeddings()
    end, start = table(ids), table(torch.where(special, ids, 0))
    total, pieces = torch.zeros_like(end), 2000
    for middle in ((torch.arange(pieces) + 0.5) / pieces).split(200):
        way = (start + middle[:, None, None] * (end - start)).detach().requires_grad_()
        more = {key: value.expand(len(middle), -1) for key, value in inputs.items()}
        model(inputs_embeds=way, **more).logits[:, decision.answer].sum().backward()
        assert way.grad is not None
        total += way.grad.sum(0)
    expected = (total / pieces * (end - start)).sum(-1)[0]
    found = [value for values in decision.values for value in values]
    assert [len(values) for values in decision.values] == [8, 3]
    assert found == pytest.approx(expected[~special[0]].tolist(), abs=2e-3 * float(expected.abs().max()))
    assert decision.attribution.gap == pytest.approx(float(expected.sum()) - decision.attribution.total, abs=1e-2)


def evaluated(folder: Path, data: Path) -> list[float]:
    """What pipeline/evaluate.py says of the one record of the file: probabilities, or a score."""
    finished = open_finished(folder, FinetuneConfig(), (), data)
    task = finished.open(data)
    model, tokenizer = task.reload(finished.model, CPU)
    encoded = task.encode("test", tokenizer)
    with torch.no_grad():
        outputs = [task.outputs(model, collate([row], 0, task.pad_values))[0] for row in encoded.rows]
    (decided,) = task.decide("test", encoded, outputs)
    return [float(decided)] if decided.dim() == 0 else decided.exp().tolist()


@pytest.mark.parametrize(
    ("family", "long_text", "pooling", "paired"),
    [
        ("classification", "cut", "mean", False),
        ("classification", "windows", "max", False),
        ("classification", "windows", "mean", True),
        ("regression", "windows", "mean", False),
        ("regression", "cut", "mean", True),
    ],
)
def test_the_decision_is_that_of_evaluate(
    tmp_path: Path, family: str, long_text: str, pooling: str, paired: bool
) -> None:
    texts = [words(20, 3), words(1500)] if paired else [words(1500)]
    record = dict(zip(("premise", "hypothesis"), texts, strict=False))
    labels = ("negative", "positive") if family == "classification" else ("score",)
    (tmp_path / "data.jsonl").write_text(json.dumps(record | {"label": "positive" if len(labels) > 1 else 1.0}))
    reading = {"family": family, "max_length": 1100, "long_text": long_text, "stride": 50, "pooling": pooling}
    folder = fine_tuned(tmp_path / "task", None, labels, **reading)
    classifier = open_classifier(folder)
    tokens = tokenize_together(classifier.tokenizer, texts, "here")
    decision = decide(classifier, load_classifier(classifier, CPU), tokens, 1)
    assert decision.outputs == pytest.approx(evaluated(folder, tmp_path / "data.jsonl"), abs=1e-5)
    assert (classifier.length, classifier.length_from) == (1100, "finetune.max_length in its metrics.json")
    most = 1100 - 20 - 3 if paired else 1098
    assert decision.read == [*([20] if paired else []), 1500 if long_text == "windows" else most]


def test_how_long_rows_are_if_nothing_is_recorded(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "one", positions=2000)
    classifier = open_classifier(folder)
    assert (classifier.length, classifier.length_from) == (2000, "model_max_length of its tokenizer")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["model_max_length"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    classifier = open_classifier(folder)
    assert (classifier.length, classifier.length_from, classifier.paired) == (1024, None, None)
    explain.run(explain_config(tmp_path, text="the film", classifier=folder))
    report = json.loads((tmp_path / "run" / "explain.json").read_text())
    told = report["networks"]["classifier"]
    assert [told[key] for key in ("window", "window_from", "fine_tuned_on")] == [1024, "unknown", "unknown"]
    assert "it is given at most 1,024 tokens at once" in report["notes"][0]
    assert "fine-tuned on one text or on two" in report["notes"][1]


def run_on(path: Path, *records: dict[str, Any], **folders: Path) -> tuple[dict[str, Any], str]:
    """Report and page."""
    (path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    explain.run(explain_config(path, file=path / "in.jsonl", **folders))
    return json.loads((path / "run" / "explain.json").read_text()), (path / "run" / "explain.html").read_text()


def test_page_and_json_say_which_text_a_token_is_of(tmp_path: Path) -> None:
    folders = all_folders(tmp_path) | {"classifier": fine_tuned(tmp_path / "task", True)}
    report, page = run_on(
        tmp_path, {"sentence1": FIRST, "sentence2": SECOND}, {"question1": "bad", "question2": "good"}, **folders
    )
    assert report["networks"]["classifier"]["fine_tuned_on"] == "two texts"
    assert report["notes"] == []
    first, second = report["texts"]
    assert [(entry["text"], entry["pair"]) for entry in report["texts"]] == [(FIRST, SECOND), ("bad", "good")]
    for tokens in (first["tokens"], first["classification"]["tokens"]):
        assert [(token["of"], first[token["of"]][token["start"] : token["end"]]) for token in tokens] == [
            *(("text", word) for word in FIRST.split()),
            *(("pair", word) for word in SECOND.split()),
        ]
    made = first["classification"]
    assert sum(token["attribution"] for token in made["tokens"]) == pytest.approx(made["sum"])
    assert made["gap"] == pytest.approx(made["sum"] - (made["at_text"] - made["at_baseline"]))
    headings = re.findall(r"<h4>(\w+) text</h4>\s*<div[^>]* aria-label=\"([^\"]*)\"", page)
    assert headings[:2] == [
        ("First", "Pair 1, first text, its tokens and how surely each is replaced"),
        ("Second", "Pair 1, second text, its tokens and how surely each is replaced"),
    ]
    assert len(headings) == page.count('role="listbox"') == 8
    alone, _ = run_on(
        tmp_path, {"text": FIRST}, {"text": SECOND}, **{k: folders[k] for k in ("discriminator", "generator")}
    )
    judged = [token["replaced"] for entry in alone["texts"] for token in entry["tokens"]]
    assert [token["replaced"] for token in first["tokens"]] == pytest.approx(judged, abs=1e-6)
    assert second["tokens"][1]["of"] == "pair"


def test_pairs_that_are_cut(tmp_path: Path) -> None:
    folder = fine_tuned(tmp_path / "task", True, max_length=23)
    report, page = run_on(tmp_path, {"text": words(30), "pair": words(300)}, classifier=folder)
    made = report["texts"][0]["classification"]
    assert [sum(token["of"] == of for token in made["tokens"]) for of in ("text", "pair")] == [10, 10]
    assert (made["tokens_read"], made["tokens_of_text"]) == (20, 330)
    assert "reads 20 of 330 tokens, the beginnings of both texts" in page


def test_fields_are_those_of_the_fine_tuning(tmp_path: Path) -> None:
    fields = FieldsConfig(text="claim", pair="proof").model_dump()
    folder = fine_tuned(tmp_path / "task", True, fields=fields)
    records = ({"claim": "bad", "proof": "good", "text": "x"}, {"text": "film", "pair": "plot"})
    report, _ = run_on(tmp_path, *records, classifier=folder)
    assert [(entry["text"], entry["pair"]) for entry in report["texts"]] == [("bad", "good"), ("film", "plot")]
    with pytest.raises(UserError, match=r"in\.jsonl:1: no 'proof'; the record has 'claim'"):
        run_on(tmp_path, {"claim": "bad"}, classifier=folder)


@pytest.mark.parametrize("dry", [True, False])
def test_one_text_is_not_two(tmp_path: Path, dry: bool) -> None:
    ask = explain.plan if dry else explain.run
    for name, paired in (("pairs", True), ("single", False)):
        fine_tuned(tmp_path / name, paired)
    one = explain_config(tmp_path, text="the film", classifier=tmp_path / "pairs" / "model")
    with pytest.raises(UserError, match=r"explain\.text: one text, but the classifier .* on two texts.*sentence2"):
        ask(one)
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": "a", "hypothesis": "b"}\n')
    two = explain_config(tmp_path, file=tmp_path / "in.jsonl", classifier=tmp_path / "single")
    with pytest.raises(UserError, match=r"in\.jsonl:2: two texts, but the classifier .* on one text.*second out"):
        ask(two)
    assert not (tmp_path / "run").exists()
