import json
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import family_names, open_task
from pipeline.tasks.families.classification import order_labels

GOOD = b'{"text": "a b", "label": "x"}\n{"sentence": "c", "label": 1}\n'


BAD_LINES = {
    "broken": (b'{"text": "a", "label"', "broken JSON"),
    "deep": (b"[" * 200_000, "broken JSON"),
    "list": (b'["a", 1]', "not a JSON object, but a list"),
    "utf8": (b'{"text": "\xff", "label": 1}', "not UTF-8"),
    "no text": (b'{"body": "a", "label": 1}', "'question1'; the record has 'body', 'label'"),
    "null text": (b'{"text": null, "label": 1}', "'text' is null, not a string"),
    "blank text": (b'{"text": " \\u200b\\u0001", "label": 1}', "no visible character"),
    "surrogate": (b'{"text": "\\ud83d", "label": 1}', "half of a surrogate pair"),
    "no label": (b'{"text": "a"}', "no 'label'; the record has 'text'. Name it by finetune.fields.label."),
    "float label": (b'{"text": "a", "label": 1.5}', "'label' is a number, not a string or a whole number"),
    "bool label": (b'{"text": "a", "label": true}', "the label 'true' does not occur in"),
    "empty label": (b'{"text": "a", "label": " "}', "'label' is an empty string"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named(tmp_path: Path, name: str) -> None:
    line, message = BAD_LINES[name]
    good, bad = tmp_path / "train.jsonl", tmp_path / "dev.jsonl"
    good.write_bytes(GOOD)
    bad.write_bytes(GOOD + b"\n" + line + b"\n")
    with pytest.raises(UserError) as told:
        open_task(FinetuneConfig(train=str(good), dev=str(bad)))
    assert str(told.value).startswith(f"{bad}:4: ")
    assert message in str(told.value)


def write(path: Path, labels: list[object]) -> str:
    path.write_text("".join(json.dumps({"text": "some words", "label": label}) + "\n" for label in labels))
    return str(path)


def test_files_that_make_no_task(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", ["x", "y"])
    cases = [
        (FinetuneConfig(dev=good), "finetune.train is not set"),
        (FinetuneConfig(train=good), "finetune.dev is not set"),
        (FinetuneConfig(train=good, dev=str(tmp_path / "none")), "none does not exist"),
        (FinetuneConfig(train=good, dev=str(tmp_path)), "cannot be read"),
        (FinetuneConfig(train=good, dev=write(tmp_path / "empty", [])), "empty holds no record"),
        (FinetuneConfig(train=write(tmp_path / "one", ["x", "x"]), dev=good), "every record has the label 'x'"),
        (FinetuneConfig(train=good, dev=good, test=write(tmp_path / "new", ["x", "z"])), r"new:2: the label 'z'"),
        (FinetuneConfig(train=good, dev=good, family="nothing"), "not known: one of classification"),
    ]
    for settings, message in cases:
        with pytest.raises(UserError, match=message):
            open_task(settings)


def test_labels_are_found_counted_and_ordered(tmp_path: Path) -> None:
    train = write(tmp_path / "train", [10, 9, "9", 10, 2])
    task = open_task(FinetuneConfig(train=train, dev=write(tmp_path / "dev", ["2", 9])))
    assert task.head_config()["id2label"] == {0: "2", 1: "9", 2: "10"}
    assert dict(task.describe()) == {
        "fields": "text = text, label = label",
        "labels": "3: 2, 9, 10",
        "train": "5 texts (2 1, 9 2, 10 2)",
        "dev": "2 texts (2 1, 9 1, 10 0)",
    }
    spaced = tmp_path / "spaced.csv"
    spaced.write_text("text, label\ngood film, 9\nbad film,10 \nfine film,2\n")
    assert [e.answer for e in open_task(FinetuneConfig(train=train, dev=str(spaced))).examples["dev"]] == [
        "9",
        "10",
        "2",
    ]
    assert order_labels({"b", "a", "1"}) == ["1", "a", "b"]
    assert {"classification", "regression"} <= set(family_names())
