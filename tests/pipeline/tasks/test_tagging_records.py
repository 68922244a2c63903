"""Mistakes in files of tagged words: the message names the line that has to be mended, not the record's first."""

import json
from pathlib import Path

import pytest

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.task_sections import FieldsConfig, FinetuneConfig
from pipeline.tasks.families.base import open_task
from pipeline.tasks.identity import comparable

GOOD = "# sentence 1\nAda B-PER\nran O\n\nin O\nRome B-LOC\n"


def told(tmp_path: Path, dev: str, name: str = "dev.conll", fields: FieldsConfig | None = None) -> str:
    """The message about this file, beside a good one for training."""
    (tmp_path / "train.conll").write_text(GOOD)
    (tmp_path / name).write_text(dev)
    settings = FinetuneConfig(family="tagging", train=str(tmp_path / "train.conll"), dev=str(tmp_path / name))
    with pytest.raises(UserError) as error:
        open_task(settings.model_copy(update={"fields": fields or FieldsConfig()}))
    return str(error.value)


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("B-ORG", "the tag 'B-ORG' of token 2 does not occur in {train}, which has O, B-LOC, I-LOC, B-PER, I-PER"),
        ("PER", "the tag 'PER' of token 2 is not IOB2: O, B-KIND or I-KIND"),
        ("B-", "the tag 'B-' of token 2 is not IOB2"),
    ],
)
def test_the_token_is_named(tmp_path: Path, tag: str, said: str) -> None:
    said = said.format(train=tmp_path / "train.conll")
    lines = f"-DOCSTART- O\n\n# sentence 1\nAda B-PER\n\n# sentence 2\nin O\nBonn {tag}\n. O\n"
    assert told(tmp_path, lines).startswith(f"{tmp_path / 'dev.conll'}:8: {said}")
    columns = FieldsConfig(tokens="0", tags="-1")
    assert told(tmp_path, lines, fields=columns).startswith(f"{tmp_path / 'dev.conll'}:8: {said}")
    record = {"tokens": ["in", "Bonn", "."], "tags": ["O", tag, "O"], "token_lines": [7, 8, 9]}
    text = json.dumps({"tokens": ["Ada"], "tags": ["B-PER"]}) + "\n\n" + json.dumps(record) + "\n"
    assert told(tmp_path, text, "dev.jsonl").startswith(f"{tmp_path / 'dev.jsonl'}:3: {said}")


def test_iob1_is_read_as_the_iob2_that_it_means(tmp_path: Path) -> None:
    # B- stands only where an entity follows another of its kind (Ramshaw and Marcus 1995).
    iob1 = ["I-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-LOC", "I-PER"]
    iob2 = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-LOC", "B-PER"]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"tokens": list("abcdefg"), "tags": iob1}) + "\n")
    task = open_task(FinetuneConfig(family="tagging", train=str(path), dev=str(path)))
    assert task.examples["dev"][0].tags == iob2
    said = "1 texts, 7 words (LOC 2, PER 2); 3 I- tags that continue nothing, read as beginnings"
    assert dict(task.describe())["train"] == said
    assert task.metrics("dev", [iob2])["accuracy"] == task.baseline("dev")["accuracy"] == 1


def test_tags_that_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"tokens": ["Ada", "ran"], "ner_tags": [1, 0]}) + "\n")
    files = [f"finetune.{split}={path}" for split in ("train", "dev")]
    run = load_config(None, ["finetune.family=tagging", "finetune.fields.tag_names=[O, B-PER]", *files])
    assert open_task(run.finetune).examples["dev"][0].tags == ["B-PER", "O"]
    unnamed = load_config(None, ["finetune.family=tagging", *files])
    with pytest.raises(UserError, match=r"a\.jsonl:1: 'ner_tags' holds a number .* finetune\.fields\.tag_names="):
        open_task(unnamed.finetune)
    # A result depends on the names, and one that is older than the key is still that of a config without them.
    assert comparable(run)["finetune.fields"]["tag_names"] == ["O", "B-PER"]
    assert "tag_names" not in comparable(unnamed)["finetune.fields"]


@pytest.mark.parametrize("fields", [{"tags": 1}, {"tags": "1", "tokens": 0}, {"tokens": -3, "tags": "-2"}])
def test_columns_are_numbers_and_each_may_be_given_alone(tmp_path: Path, fields: dict[str, str | int]) -> None:
    path = tmp_path / "a.conll"
    path.write_text("Ada B-PER x\nran O y\n")
    task = open_task(
        FinetuneConfig.model_validate({"family": "tagging", "train": str(path), "dev": str(path), "fields": fields})
    )
    assert (task.examples["dev"][0].tokens, task.examples["dev"][0].tags) == (["Ada", "ran"], ["B-PER", "O"])
