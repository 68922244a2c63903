"""`python -m pipeline.shards ls`, `cat` and `stat`: what they show is what was written."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from model.config import SEP_ID
from tests.pipeline.shards.running import Run
from tests.pipeline.shards.text_dataset import BLOCK, TextDataset

ROOT = Path(__file__).resolve().parents[3]


# ls


def test_ls_by_whatever_name(made: TextDataset, run: Run) -> None:
    listed = json.loads(run("ls", made.folder, "--json").out)
    for split, about in json.loads((made.data / "manifest.json").read_text())["splits"].items():
        assert listed["splits"][split] == about | {"bytes": sum(shard["bytes"] for shard in about["shards"])}
    assert listed["version"] == 1
    assert listed["tokenizer"] == made.manifest.tokenizer.model_dump()
    for place in (made.data, made.data / "manifest.json", made.data / "manifests" / "000001.json"):
        assert json.loads(run("ls", place, "--json").out) == listed
    for part, shards in ((made.data / "train-web", 11), (made.data / "train-books" / "000001.tar", 1)):
        (split,) = json.loads(run("ls", part, "--json").out)["splits"].values()
        assert len(split["shards"]) == shards
    table = run("ls", made.folder).out
    entry = made.manifest.splits["train-books"].shards[1]
    row = next(line.split() for line in table.splitlines() if entry.name in line)
    numbers = [f"{number:,}" for number in (entry.blocks, entry.tokens, entry.documents, entry.bytes)]
    assert row == [entry.name, *numbers, entry.sha256[:16]]


# cat


def test_cat_gives_every_document_back(made: TextDataset, run: Run) -> None:
    for split, documents in made.documents.items():
        lines = run("cat", made.folder, "--split", split).lines
        assert [line["text"] for line in lines] == [text for text, _ in documents]
        assert [line["document"] for line in lines] == list(range(len(documents)))
        assert [line["tokens"] for line in lines] == [len(ids) + 1 for _, ids in documents]
        starts = np.cumsum([0, *(line["tokens"] for line in lines)])
        assert [line["block"] for line in lines] == (starts[:-1] // BLOCK).tolist()
        assert not any("whole" in line for line in lines)
        ids = [line["ids"] for line in run("cat", made.data / split, "--ids").lines]
        assert ids == [[*ids, SEP_ID] for _, ids in documents]
    assert [line["split"] for line in run("cat", made.folder).lines] == [
        split for split, documents in made.documents.items() for _ in documents
    ]


def test_cat_finds_documents_and_blocks(made: TextDataset, run: Run) -> None:
    web = [text for text, _ in made.documents["train-web"]]
    for number in (0, 59, 60, 61, 90):
        (line,) = run("cat", made.folder, "--split", "train-web", "--document", number).lines
        assert (line["document"], line["text"]) == (number, web[number])
    ends = np.cumsum([len(ids) + 1 for _, ids in made.documents["train-web"]])
    for block in (0, 1, 20, 25, 41):
        here = [n for n in range(91) if ends[n] > block * BLOCK and (n == 0 or ends[n - 1] < (block + 1) * BLOCK)]
        for name in (["--split", "train-web", "--block", block], ["--block", f"train-web-{block:09d}"]):
            assert [line["document"] for line in run("cat", made.folder, *name).lines] == here
    assert len(run("cat", made.folder, "--limit", 7).lines) == 7
    text = run("cat", made.data / "validation", "--text").out
    assert text == "".join(f"{text}\n\n" for text, _ in made.documents["validation"])


def test_cat_of_one_shard_tells_what_is_cut(made: TextDataset, run: Run) -> None:
    lines = run("cat", made.data / "train-web" / "000005.tar", "--ids").lines
    assert [(line["document"], line["tokens"], line["whole"]) for line in lines] == [(60, 4 * BLOCK, False)]
    lines = run("cat", made.data / "train-web" / "000001.tar").lines
    assert [line.get("whole", True) for line in lines] == [False, *[True] * (len(lines) - 2), False]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--document", "3"], "add --split, one of train-web, train-books, validation"),
        (["--split", "train"], "has no split train. Its splits: train-web, train-books, validation"),
        (
            ["--split", "validation", "--document", "5"],
            "validation has no document 5 here. Documents are numbered from 0",
        ),
        (["--block", "validation-000000002"], "validation has no block 2 here. Blocks are numbered from 0"),
        (["--block", "last"], "--block last: give a block's number, or its key"),
        (["--tokenizer", "nowhere.model"], "nowhere.model: cannot read the tokenizer"),
    ],
)
def test_cat_refuses(made: TextDataset, run: Run, arguments: list[str], told: str) -> None:
    assert told in run("cat", made.folder, *arguments).told


def test_cat_needs_the_tokenizer_of_the_data(made: TextDataset, run: Run, tmp_path: Path) -> None:
    moved = (made.folder / "tokenizer").rename(tmp_path / "moved")
    assert "there is no tokenizer at" in run("cat", made.folder).told
    assert len(run("cat", made.folder, "--ids").lines) == 116
    assert len(run("cat", made.folder, "--tokenizer", moved).lines) == 116
    content = json.loads((made.data / "manifest.json").read_text())
    content["tokenizer"]["sha256"] = "f" * 64
    (made.data / "manifest.json").write_text(json.dumps(content))
    assert "the data was made with another tokenizer" in run("cat", made.folder, "--tokenizer", moved).told


def test_a_reader_that_goes_away_is_no_error(made: TextDataset) -> None:
    command = [sys.executable, "-m", "pipeline.shards", "cat", str(made.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith('{"split": "train-web", "document": 0')
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


# stat


def test_stat_counts_every_token(made: TextDataset, run: Run) -> None:
    found = json.loads(run("stat", made.folder, "--json").out)
    for split, documents in made.documents.items():
        flat = Counter(token for _, ids in documents for token in ids)
        lengths = [len(ids) + 1 for _, ids in documents]
        about = found[split]
        assert about["tokens"] == sum(lengths)
        assert about["documents"] == about["lengths"]["documents"] == len(lengths)
        assert about["padding"] == made.manifest.splits[split].blocks * BLOCK - sum(lengths)
        assert about["unknown"] == flat[1]
        assert about["different_pieces"] == len(flat)
        assert about["lengths"]["mean"] == pytest.approx(np.mean(lengths), abs=0.01)
        assert (about["lengths"]["least"], about["lengths"]["most"]) == (min(lengths), max(lengths))
        assert about["lengths"]["p50"] == np.percentile(lengths, 50, method="inverted_cdf")
        expected = sorted(flat.items(), key=lambda item: (-item[1], item[0]))[:20]
        assert [(piece["id"], piece["count"]) for piece in about["frequent"]] == expected
        assert all(isinstance(piece["piece"], str) for piece in about["frequent"])
    table = run("stat", made.folder).out
    assert "train-web: 11 shards read" in table
    assert "91 whole ones" in table


def test_stat_of_some_shards(made: TextDataset, run: Run) -> None:
    about = json.loads(run("stat", made.data / "train-web", "--shards", 3, "--json").out)["train-web"]
    shards = [made.manifest.splits["train-web"].shards[number] for number in (0, 3, 7)]
    assert (about["shards"], about["of_shards"]) == (3, 11)
    assert about["tokens"] == sum(shard.tokens for shard in shards)
    assert about["documents"] == sum(shard.documents for shard in shards)
    assert about["lengths"]["documents"] < about["documents"]
    assert "3 shards read, of 11" in run("stat", made.data / "train-web", "--shards", 3).out


# places


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nowhere", "nowhere does not exist"),
        ("empty", "empty holds no manifest.json and no shard"),
        ("nowhere.tar", "nowhere.tar does not exist"),
        ("manifest.json", "there is no data set in"),
        ("ftp://host/x", "the scheme ftp:// is not known"),
    ],
)
@pytest.mark.parametrize("command", ["ls", "cat", "verify", "stat"])
def test_places_that_are_none(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, place: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert told in run(command, place).told
