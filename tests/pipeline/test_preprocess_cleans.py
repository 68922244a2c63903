"""Filters, copies, evaluation texts and corpora through the whole stage: known counts, the same for any workers.

The first run is on a local Ray, those that are compared with it have their tasks done in this process.
"""

import json
import random
from pathlib import Path

import pytest
import sentencepiece

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.shards.manifest import read_manifest
from pipeline.stages import preprocess
from tests.corpora import config_for, digests
from tests.in_process import here

WORDS = ["".join(random.Random(number).choices("abcdefghijklmnop", k=3 + number % 7)) for number in range(3000)]
KEPT, SHORT, BLOCKED, COPIES, NEAR, LEAKED = 120, 7, 5, 11, 9, 4


def text(draw: random.Random, words: int = 150) -> str:
    return " ".join(draw.choices(WORDS, k=words)) + "."


def changed(draw: random.Random, original: str) -> str:
    words = original.split()
    for place in draw.sample(range(len(words)), len(words) // 20):
        words[place] = "xyz"
    return " ".join(words)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with web/ (dirty, in several files), books/ (clean), a blocklist and an evaluation file."""
    folder = tmp_path_factory.mktemp("cleans")
    draw = random.Random(7)
    good = [text(draw) for _ in range(KEPT)]
    questions = [text(draw, 30) for _ in range(LEAKED)]
    web = [{"text": one, "url": f"https://good.example/{number}"} for number, one in enumerate(good)]
    web += [{"text": "too short: someone@mail.example."} for _ in range(SHORT)]
    web += [{"text": text(draw), "url": f"https://www.bad.example/{number}"} for number in range(BLOCKED)]
    web += [{"text": f"{text(draw)} {question} {text(draw)}"} for question in questions]
    order = list(range(len(web)))
    draw.shuffle(order)
    web = [web[place] for place in order]
    web += [{"text": one} for one in good[:COPIES]] + [{"text": changed(draw, one)} for one in good[20 : 20 + NEAR]]
    web += [{"text": f"Write to someone@mail.example: {text(draw)}"}]
    paragraphs = [text(draw, 40) for _ in range(6)]
    web += [{"text": "\n\n".join(paragraphs)}, {"text": paragraphs[2]}]  # of the second nothing is left
    (folder / "corpus").mkdir()
    for number in range(4):
        lines = [json.dumps(record) for record in web[number * len(web) // 4 : (number + 1) * len(web) // 4]]
        (folder / "corpus" / f"{number}.jsonl").write_text("\n".join(lines) + "\n{broken\n")
    (folder / "books.txt").write_text("\n\n".join(text(draw, 300) for _ in range(40)))
    (folder / "blocked").write_text("bad.example\n")
    (folder / "checked.txt").write_text("Ten words of which none is in any of the documents.")
    (folder / "questions.jsonl").write_text("\n".join(json.dumps({"question": one}) for one in questions))
    return folder


def settings(shared: Path, run: str, *more: str) -> RunConfig:
    return config_for(
        shared,
        shared / run,
        "corpus.max_bad_fraction=0.1",
        "corpus.clean.length.min_words=20",
        f"corpus.clean.blocklist.domains_file={shared / 'blocked'}",
        "corpus.clean.personal_data=true",
        "corpus.clean.ratios=true",
        "corpus.deduplicate.documents=true",
        "corpus.deduplicate.near=true",
        "corpus.deduplicate.paragraphs=true",
        f"corpus.decontaminate.paths=[{shared / 'questions.jsonl'},{shared / 'checked.txt'}]",
        *more,
    )


@pytest.mark.slow
def test_known_counts_for_any_number_of_workers_and_tasks(shared: Path) -> None:
    preprocess.run(settings(shared, "two"))
    run = RunFolder(shared / "two")
    figures = json.loads(run.statistics.read_text())
    assert figures["dropped_by_reason"] == {
        "broken JSON": 4,
        "blocklist": BLOCKED,
        "length": SHORT,
        "decontaminate": LEAKED,
        "duplicate: exact": COPIES,
        "duplicate: near": NEAR,
        "duplicate: all paragraphs": 1,
    }
    texts = [
        json.loads(line)["text"]
        for path in (shared / "corpus").iterdir()
        for line in path.read_text().splitlines()
        if line.startswith('{"')
    ]
    lines = sum(path.read_text().count("\n") for path in (shared / "corpus").iterdir())
    assert figures["kept"] + figures["dropped"] == lines
    assert figures["documents"] == KEPT + 2 == read_manifest(run.manifest).corpus.documents
    assert figures["edits"] == {"personal_data.email": 1}
    assert figures["contamination"]["by_file"] == {
        "questions.jsonl": {"dropped": LEAKED, "cut": 0},
        "checked.txt": {"dropped": 0, "cut": 0},
    }
    assert {found["name"]: len(found["examples"]) for found in figures["filters"]} == {
        "personal_data": 0,
        "blocklist": 5,
        "length": 5,
        "ratios": 0,
        "decontaminate": 4,
    }
    for found in figures["filters"]:
        for example in found["examples"]:
            line = Path(example["file"]).read_text().splitlines()[example["line"] - 1]
            seen = json.loads(line)["text"].replace("someone@mail.example", "<EMAIL>")
            assert seen.startswith(example["text"])
    assert {example["text"] for example in figures["filters"][2]["examples"]} == {"too short: <EMAIL>."}
    for pair in (pair for pair in figures["duplicates"]["examples"] if pair["kind"] == "exact"):
        assert pair["dropped"]["text"][:10] == pair["kept"]["text"][:10]
    (cut,) = (pair for pair in figures["duplicates"]["examples"] if pair["kind"] == "paragraphs")
    (third,) = (text.split("\n\n")[2] for text in texts if "\n\n" in text)
    assert cut["dropped"]["text"] == cut["kept"]["text"] == third[:200]
    assert figures["tokenizer"]["fertility"] > 1
    page = run.report.read_text()
    assert "blocklist" in page
    assert "checked.txt" in page
    for told in (page, run.statistics.read_text()):
        assert "someone@mail.example" not in told
    with here():
        preprocess.run(settings(shared, "one", "ray.num_cpus=1"))
        preprocess.run(settings(shared, "given", f"tokenizer.path={run.tokenizer}", "corpus.task_bytes=40000"))
    assert digests(shared / "one") == digests(shared / "two")
    ours, theirs = (read_manifest(RunFolder(shared / name).manifest) for name in ("given", "two"))
    assert ours.corpus == theirs.corpus  # the same documents, whatever the tasks


@pytest.mark.slow
def test_corpora_of_a_mixture_have_their_own_filters_and_splits(shared: Path) -> None:
    web = {"paths": [str(shared / "corpus")], "weight": 3, "clean": {"length": {"min_words": 20}}}
    books = {"paths": [str(shared / "books.txt")], "weight": 1, "clean": {"length": {"max_words": 10}}}
    more = ["corpus.paths=[corpus]", "corpus.max_bad_fraction=0.1"]
    config = config_for(shared, shared / "mixed", *more, f"corpus.corpora={json.dumps({'web': web, 'books': books})}")
    with here(), pytest.raises(UserError, match="no document of corpus books is left"):
        preprocess.run(config)
    books["clean"] = {}
    config = config_for(shared, shared / "mixed", *more, f"corpus.corpora={json.dumps({'web': web, 'books': books})}")
    preprocess.run(config, fresh=True)
    run = RunFolder(shared / "mixed")
    manifest = read_manifest(run.manifest)
    assert set(manifest.splits) == {"train-web", "train-books", "validation"}
    figures = json.loads(run.statistics.read_text())
    shares = {found["name"]: found["share"] for found in figures["corpora"]}
    assert shares == {"web": 0.75, "books": 0.25}
    # Of books no filter is on.
    assert [(found["corpus"], found["name"]) for found in figures["filters"]] == [("web", "length")]
    assert "web: length" in run.report.read_text()
    tokens = sentencepiece.SentencePieceProcessor(model_file=str(run.tokenizer))
    books_documents = (shared / "books.txt").read_text().split("\n\n")
    found = manifest.splits["train-books"]
    most = sum(len(tokens.encode(one)) + 1 for one in books_documents)
    assert 0 < found.tokens <= most
    assert found.documents <= 40
    lines = dict(
        preprocess.plan(
            config_for(shared, shared / "planned", *more, f"corpus.corpora={json.dumps({'web': web, 'books': books})}")
        )
    )
    assert lines["  corpus web"].endswith("weight 3")
