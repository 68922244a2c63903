"""What each piece of a tagged text is trained to say, and that transformers' pipeline reads entities from it."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import transformers
from seqeval.metrics.sequence_labeling import get_entities
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from pipeline.base.config import load_config
from pipeline.base.journal import Journal
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import open_task
from pipeline.tasks.job import fine_tune
from pipeline.tasks.recipe import settled
from pipeline.tasks.tagging_text import join
from tests.pipeline.tasks.tiny_folders import SPECIAL, tiny_model

SPELT = {"B-PER": "ab", "I-PER": "cd", "B-LOC": "ef", "I-LOC": "gh", "O": "xyz"}
"""Letters of the words of each tag."""


def cutting(pattern: str, known: Sequence[str] = ()) -> Any:
    """A tokenizer whose pieces are the matches of a pattern."""
    vocabulary = {name: place for place, name in enumerate([*SPECIAL, *known])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def taught(tmp_path: Path, tokens: list[str], tags: list[str], pattern: str, **settings: Any) -> list[list[str]]:
    """The tag that each piece of each row is trained to have; "" where it is left alone."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"tokens": tokens, "tags": tags}) + "\n")
    task = open_task(FinetuneConfig(family="tagging", train=str(path), dev=str(path), **settings))
    names = dict(enumerate(task.labels)) | {-100: ""}
    return [[names[place] for place in row] for row in task.encode("train", cutting(pattern)).targets]


@pytest.mark.parametrize("pattern", [r" ?\w{1,2}", r"\w{1,2}| "])
def test_the_rest_of_a_word_continues_its_tag(tmp_path: Path, pattern: str) -> None:
    """Also after a space that is a piece; such a space is inside an entity only where the entity goes on."""
    tokens, tags = ["so", "Adam", "Smith", "Anna", "ran"], ["O", "B-PER", "I-PER", "B-PER", "O"]
    words = [["O"], ["B-PER", "I-PER"], ["I-PER"] * 3, ["B-PER", "I-PER"], ["O", "O"]]
    spaces = [[], ["O"], ["I-PER"], ["O"], ["O"]] if pattern.endswith("| ") else [[]] * 5
    expected = [tag for space, word in zip(spaces, words, strict=True) for tag in (*space, *word)]
    assert taught(tmp_path, tokens, tags, pattern) == [["", *expected, ""]]


def test_a_window_that_begins_within_a_word_continues_it(tmp_path: Path) -> None:
    tokens, tags = ["Bartholomew", "Ann", "ran"], ["B-PER", "I-PER", "O"]
    rows = taught(tmp_path, tokens, tags, r"\w| ", max_length=8, long_text="windows", stride=1)
    assert rows == [
        ["", "B-PER", *["I-PER"] * 5, ""],
        ["", *["I-PER"] * 6, ""],
        ["", *["I-PER"] * 5, "O", ""],
        ["", *["O"] * 4, ""],
    ]


def test_pieces_across_characters_continue_what_is_decided_for_them(tmp_path: Path) -> None:
    """Characters that begin in one piece share its decision, and so does the rest of the last of them."""
    tokens, tags = ["我", "在", "北", "京", "大学", "的"], ["O", "O", "B-ORG", "I-ORG", "I-ORG", "O"]
    assert taught(tmp_path, tokens, tags, "我|在北|京大|学|的") == [["", "O", "O", "I-ORG", "I-ORG", "O", ""]]
    assert taught(tmp_path, tokens, tags, "我在|北京|大|学的") == [["", "O", "B-ORG", "I-ORG", "O", ""]]
    assert taught(tmp_path, ["我", "北京"], ["O", "B-LOC"], "我北|京") == [["", "O", "O", ""]]


def sentences(seed: int, count: int) -> str:
    """Names of people and places, of one word or two, between other words."""
    draw, lines = random.Random(seed), []
    for _ in range(count):
        kind = draw.choice(("PER", "LOC"))
        tags = ["O", f"B-{kind}", *[f"I-{kind}"] * draw.randint(0, 1), "O"]
        tokens = ["".join(draw.choices(SPELT[tag], k=draw.randint(2, 4))) for tag in tags]
        lines.append(json.dumps({"tokens": tokens, "tags": tags}) + "\n")
    return "".join(lines)


def test_the_pipeline_finds_the_entities_that_are_reported(tmp_path: Path) -> None:
    """A piece is a letter, with the space before it."""
    known = [space + letter for space in ("", " ") for letter in "".join(SPELT.values())]
    tiny_model("electra", len(SPECIAL + known)).save_pretrained(tmp_path / "export")
    cutting(r" ?\w", known).save_pretrained(tmp_path / "export")
    values = {"family": "tagging", "export": tmp_path / "export", "lr": 1e-2, "layer_decay": 1.0, "max_length": 64}
    for seed, split in enumerate(("train", "dev")):
        (tmp_path / f"{split}.jsonl").write_text(sentences(seed, (256, 24)[seed]))
        values[split] = tmp_path / f"{split}.jsonl"
    settings = [f"finetune.{key}={value}" for key, value in (values | {"epochs": 2, "batch_size": 8}).items()]
    run = settled(load_config(None, ["train.threads=1", "seed=1", f"run_dir={tmp_path}", *settings]))
    assert fine_tune(run, tmp_path / "task", Journal(None))["finetune/classification/f1"] == 1
    tag = transformers.pipeline("token-classification", str(tmp_path / "task" / "model"), aggregation_strategy="simple")
    reported = [json.loads(line) for line in (tmp_path / "task" / "predictions-dev.jsonl").read_text().splitlines()]
    for row in reported:
        text, starts = join(row["tokens"])
        ends = [start + len(word) for start, word in zip(starts, row["tokens"], strict=True)]
        expected = [(kind, starts[first] - 1, ends[last]) for kind, first, last in get_entities(row["predicted"])]
        assert [(found["entity_group"], found["start"], found["end"]) for found in tag(text)] == expected
