"""Question answering: windows, spans, the null threshold, SQuAD's figures, what is refused."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.batches import collate
from pipeline.tasks.families.base import open_task
from pipeline.tasks.pretrained import open_pretrained
from pipeline.tasks.question_metrics import best_threshold, exact_and_f1
from pipeline.tasks.question_text import CONTEXT, NULL, Spans, best_spans, shortened
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, WORDS, tiny_folder, tiny_tokenizer

CPU = torch.device("cpu")
FILLERS = WORDS[12:]


def record(question: str, context: str, *answers: str) -> dict[str, Any]:
    starts = [context.index(answer) for answer in answers]
    return {"question": question, "context": context, "answers": {"text": list(answers), "answer_start": starts}}


def opened(folder: Path, records: list[dict[str, Any]], dev: list[dict[str, Any]] | None = None, **more: Any) -> Any:
    for split, found in (("train", records), ("dev", dev or records)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in found), encoding="utf-8")
    files: dict[str, Any] = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev")}
    values: dict[str, Any] = {"family": "question_answering", "max_length": 16, "stride": 4} | files | more
    return open_task(FinetuneConfig(**values))


def drawn(size: int, answerless: bool) -> list[dict[str, Any]]:
    """The answer is the word after "good"; without "good" there is none."""
    draw, records = random.Random(size), []
    for number in range(size):
        words = draw.choices(FILLERS, k=30)
        place = draw.randrange(1, 29)
        if answerless and number % 3 == 0:
            records.append(record("the plot", " ".join(words)))
            continue
        words[place - 1] = "good"
        context = " ".join(words)
        start = len(" ".join(words[:place])) + 1
        answers = {"text": [words[place]], "answer_start": [start]}
        records.append({"question": "the plot", "context": context, "answers": answers})
    return records


def gold(encoded: Any) -> list[Spans]:
    """Outputs that say what the targets say."""
    outputs = []
    for target, first in zip(encoded.targets, encoded.firsts, strict=True):
        score, place = (-1.0, (first, first)) if target == NULL else (1.0, target)
        outputs.append(Spans(0.0, torch.tensor([score]), torch.tensor([place])))
    return outputs


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_learns_and_is_loaded_again(tmp_path: Path, architecture: str) -> None:
    task = opened(tmp_path, drawn(200, answerless=True), drawn(40, answerless=True), max_length=24)
    pretrained = open_pretrained(tiny_folder(tmp_path / "export", architecture), task, task.settings)
    model = task.load(pretrained, 0, CPU)
    assert dict(task.layer_powers(model)).keys() == dict(model.named_parameters()).keys()
    train, dev = (task.encode(split, pretrained.tokenizer) for split in ("train", "dev"))
    optimizer, draw, losses = torch.optim.AdamW(model.parameters(), lr=2e-3), random.Random(1), []
    model.train()
    for _ in range(40):
        chosen = [draw.randrange(len(train.rows)) for _ in range(32)]
        loss = task.loss(model, collate([train.rows[i] for i in chosen], 0, {}), [train.targets[i] for i in chosen])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    model.eval()
    figures = answered(task, model, dev)
    assert set(figures) == {f"{p}{n}" for p in ("", "has_answer_", "no_answer_") for n in ("exact_match", "f1")}
    task.save(model, pretrained.tokenizer, tmp_path / "model")
    (tmp_path / "metrics.json").write_text(json.dumps(task.facts()))
    threshold = task.threshold
    task.threshold = 99.0
    again, _ = task.reload(tmp_path / "model", CPU)
    assert task.threshold == threshold
    assert answered(task, again, dev) == figures


@torch.no_grad()
def answered(task: Any, model: Any, encoded: Any) -> dict[str, float]:
    outputs = task.outputs(model, collate(encoded.rows, 0, {}))
    figures: dict[str, float] = task.metrics("dev", task.decide("dev", encoded, outputs))
    return figures


@pytest.mark.parametrize("answerless", [False, True])
def test_right_outputs_give_full_marks(tmp_path: Path, answerless: bool) -> None:
    task = opened(tmp_path, drawn(60, answerless))
    encoded = task.encode("dev", tiny_tokenizer())
    assert len(encoded.rows) > 2 * 60
    assert max(len(row["input_ids"]) for row in encoded.rows) == 16
    decisions = task.decide("dev", encoded, gold(encoded))
    assert set(task.metrics("dev", decisions).values()) == {100.0}
    assert task.answerless is answerless
    shown = task.predictions("dev", decisions)
    assert [row["predicted"] for row in shown] == [(row["answers"] or [""])[0] for row in shown]


def test_a_question_without_an_id_has_its_line(tmp_path: Path) -> None:
    keys = [{"id": None}, {"id": 0}, {}]
    task = opened(tmp_path, [record("the plot", "w1 w2 w3", "w2") | key for key in keys])
    assert [example.key for example in task.examples["train"]] == ["1", "0", "3"]


def test_without_answerless_questions_one_is_always_given(tmp_path: Path) -> None:
    task = opened(tmp_path, [record("the plot", "w1 w2 w3", "w2")])
    encoded = task.encode("dev", tiny_tokenizer())
    spans = Spans(9.0, torch.tensor([-3.0]), torch.tensor([[encoded.firsts[0]] * 2]))
    assert [d.text for d in task.decide("dev", encoded, [spans])] == ["w1"]


def test_spans_are_the_best_of_all(tmp_path: Path) -> None:
    torch.manual_seed(0)
    starts, ends = torch.randn(3, 12), torch.randn(3, 12)
    inside = torch.zeros(3, 12, dtype=torch.long)
    inside[:, 4:9] = 1
    for row, spans in enumerate(best_spans(starts, ends, inside, 3)):
        expected = {(s, e): float(starts[row, s] + ends[row, e]) for s in range(4, 9) for e in range(s, 9) if e - s < 3}
        ordered = sorted(expected, key=lambda span: -expected[span])
        assert [tuple(place) for place in spans.places.tolist()] == ordered
        assert spans.null == pytest.approx(float(starts[row, 0] + ends[row, 0]))


def test_a_long_context_is_read_whole_and_a_long_question_is_cut(tmp_path: Path) -> None:
    words = random.Random(0).choices(FILLERS, k=3000)
    words[2950] = "film"
    task = opened(tmp_path, [record(" ".join(WORDS[12:40]), " ".join(words), "film")])
    encoded = task.encode("train", tiny_tokenizer())
    assert encoded.cut == 1
    assert max(len(row["input_ids"]) for row in encoded.rows) <= 16
    hits = [place for place, target in enumerate(encoded.targets) if target != NULL]
    assert hits
    for place in hits:
        assert encoded.rows[place]["input_ids"][encoded.targets[place][0]] == tiny_tokenizer().vocab["film"]
        assert encoded.rows[place][CONTEXT][encoded.targets[place][0]] == 1
    assert [d.text for d in task.decide("train", encoded, gold(encoded))] == ["film"]
    assert shortened(tiny_tokenizer(), "w1 w2 w3", 2) == "w1 w2"


@pytest.mark.parametrize(
    ("answers", "predicted", "expected"),
    [
        (["the Broncos"], "Broncos!", (1, 1)),
        (["Denver Broncos"], "the Broncos won", (0, 0.5)),
        (["a b", "Denver Broncos"], "denver  broncos", (1, 1)),
        ([], "", (1, 1)),
        ([], "word", (0, 0)),
        (["word"], "", (0, 0)),
        (["南宋年间"], "南宋", (0, 2 / 3)),
        (["《南宋》。"], "南宋", (1, 1)),
        (["MPEG-2 标准"], "mpeg2标准", (1, 1)),
    ],
)
def test_figures_by_hand(answers: list[str], predicted: str, expected: tuple[float, float]) -> None:
    assert exact_and_f1(answers, predicted) == pytest.approx(expected)


def test_threshold_against_trying_all() -> None:
    draw = random.Random(3)
    for _ in range(30):
        leads = [float(draw.randint(-4, 4)) for _ in range(12)]
        gains = [draw.choice((-1.0, 0.5, 1.0)) for _ in leads]

        def total(threshold: float, leads: list[float] = leads, gains: list[float] = gains) -> float:
            return sum(gain for lead, gain in zip(leads, gains, strict=True) if lead <= threshold)

        assert total(best_threshold(leads, gains)) == max(total(step / 4 - 6) for step in range(49))


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"answers": {"text": ["w2"], "answer_start": [0]}}, "not at its answer_start 0.*it is at 3"),
        ({"answers": {"text": ["w9"], "answer_start": [0]}}, "nowhere in the context"),
        ({"answers": {"text": ["w2"], "answer_start": [99]}}, "outside its context of 8 characters"),
        ({"answers": {"text": ["w2"], "answer_start": [-5]}}, "outside its context"),
        ({"answers": {"text": ["w2"], "answer_start": []}}, "two lists of one length"),
        ({"answers": {"text": [" "], "answer_start": [2]}}, "blank"),
        ({"answers": {"text": ["w2"], "answer_start": ["3"]}}, "answer_start that is a string"),
        ({"answers": ["w2"]}, "a list, not"),
        ({"answers": "w2"}, "not JSON of the form"),
        ({"answers": None}, "null, not"),
        ({"context": ""}, "'context' has no visible character"),
        ({"question": 3}, "'question' is a number"),
        ({"is_impossible": True}, "'is_impossible' is true, but there are answers"),
    ],
)
def test_bad_records_are_refused_with_their_line(tmp_path: Path, broken: dict[str, Any], told: str) -> None:
    good = record("the plot", "w1 w2 w3", "w2")
    with pytest.raises(UserError, match=rf"dev\.jsonl:2: .*{told}"):
        opened(tmp_path, [good], [good, good | broken])


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.jsonl holds no record"):
        opened(tmp_path, [], [record("the plot", "w1", "w1")])


def test_csv_spells_answers_as_json(tmp_path: Path) -> None:
    row = 'the plot,w1 w2,"{""text"": [""w2""], ""answer_start"": [3]}"\n'
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text("query,passage,answers\n" + row)
    files: dict[str, Any] = {split: str(tmp_path / f"{split}.csv") for split in ("train", "dev")}
    names: Any = {"question": "query", "context": "passage"}
    task: Any = open_task(FinetuneConfig(family="question_answering", fields=names, **files))
    assert task.examples["train"][0].answers == ["w2"]
    assert task.baseline("dev") == {"exact_match": 0.0, "f1": pytest.approx(200 / 3)}
