"""The whole stage on local Ray: the same bytes for any number of workers, the stream that the corpus spells, counts.

Where Ray is not what a test is about, the tasks are done in this process.
"""

import hashlib
import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import webdataset

from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.shards.manifest import read_manifest, verify_shards
from pipeline.stages import preprocess
from tests.corpora import BLOCK, FRACTION, config_for, digests, make_corpus
from tests.in_process import here


def read_stream(run: RunFolder, split: str) -> tuple[np.ndarray[Any, Any], list[int]]:
    """ids (tokens,) and where documents begin, as stock webdataset reads the shards."""
    shards = [str(run.data / entry.name) for entry in read_manifest(run.manifest).splits[split].shards]
    ids, starts = [], []
    for sample in webdataset.WebDataset(shards, shardshuffle=False).decode():
        starts += [len(ids) * BLOCK + int(offset) for offset in sample["documents.npy"]]
        ids.append(sample["ids.npy"])
        tokens = sample["meta.json"]["tokens"]
    return np.concatenate(ids)[: (len(ids) - 1) * BLOCK + tokens], starts


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with corpus/ and a first run's folder, two/."""
    folder = tmp_path_factory.mktemp("preprocess")
    make_corpus(folder / "corpus")
    preprocess.run(config_for(folder, folder / "two"))
    return folder


@pytest.mark.slow
def test_the_stream_is_the_corpus(shared: Path) -> None:
    run = RunFolder(shared / "two")
    manifest = read_manifest(run.manifest)
    for split in manifest.splits.values():
        verify_shards(run.data, split.shards)
    encode = sentencepiece.SentencePieceProcessor(model_file=str(run.tokenizer)).encode
    texts = make_corpus(shared / "again")
    wanted: dict[str, list[list[int]]] = {"train": [], "validation": []}
    for text in texts:
        share = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest()[:8], "big") / 2**64
        wanted["validation" if share < FRACTION else "train"].append([*encode(text), 3])
    for split, documents in wanted.items():
        ids, starts = read_stream(run, split)
        assert ids.tolist() == [one for document in documents for one in document]
        assert starts == np.cumsum([0, *map(len, documents)])[:-1].tolist()
        assert not np.isin(ids, [0, 1, 2, 4]).any()
        assert manifest.splits[split].documents == len(documents) > 20
    assert manifest.corpus.documents == len(texts)
    bad = [json.loads(line) for line in run.quarantine.read_text().splitlines()]
    assert [(Path(one["file"]).name, one["line"], one["bytes"]) for one in bad] == [
        ("b.jsonl", 71, 7),
        ("b.jsonl", 73, 11),
    ]
    figures = json.loads(run.statistics.read_text())
    assert figures["dropped_by_reason"] == {"broken JSON": 1, "text field not a string": 1}
    assert figures["characters"] == sum(map(len, texts))
    for total, field in (("documents", "documents"), ("characters", "characters"), ("dropped", "dropped")):
        assert sum(one[field] for one in figures["inputs"]) == figures[total]
    assert [one["documents"] for one in figures["inputs"] if one["input"].endswith("g/")] == [150]
    assert sum(figures["scripts"].values()) == pytest.approx(1, abs=1e-4)
    lengths = [len(document) for document in wanted["train"]]
    assert figures["splits"]["train"]["lengths"]["p50"] == sorted(lengths)[(len(lengths) + 1) // 2 - 1]
    histogram = Counter(1 << (length.bit_length() - 1) for length in lengths)
    assert sum(figures["splits"]["train"]["lengths"]["histogram"].values()) == histogram.total()
    assert not (run.data / ".work").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "ray"), [(1, False), (4, True)])
def test_same_bytes_for_any_number_of_workers(shared: Path, workers: int, ray: bool) -> None:
    run_dir = shared / f"workers-{workers}"
    with nullcontext() if ray else here():
        preprocess.run(config_for(shared, run_dir, f"ray.num_cpus={workers}"))
    assert digests(run_dir) == digests(shared / "two")
    first, second = (read_manifest(RunFolder(path).manifest) for path in (run_dir, shared / "two"))
    assert first.model_copy(update={"config": {}}) == second.model_copy(update={"config": {}})


@pytest.mark.slow
def test_given_tokenizer_and_other_tasks_give_the_same_stream(shared: Path) -> None:
    run_dir = shared / "given"
    tokenizer = RunFolder(shared / "two").tokenizer
    with here():
        preprocess.run(config_for(shared, run_dir, f"tokenizer.path={tokenizer}", "corpus.task_bytes=100000"))
    assert RunFolder(run_dir).tokenizer.read_bytes() == tokenizer.read_bytes()
    first, second = (read_manifest(RunFolder(path).manifest) for path in (run_dir, shared / "two"))
    assert first.corpus == second.corpus
    for split in ("train", "validation"):
        ids, starts = read_stream(RunFolder(run_dir), split)
        others, other_starts = read_stream(RunFolder(shared / "two"), split)
        assert np.array_equal(ids, others)
        assert starts == other_starts


@pytest.mark.slow
def test_finished_stage_is_left_alone(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "connected", None)  # no Ray
    before = {path: path.stat().st_mtime_ns for path in (shared / "two").rglob("*")}
    preprocess.run(config_for(shared, shared / "two"))
    preprocess.run(config_for(shared, shared / "two", "train.steps=7", "corpus.max_bad_fraction=0.5"))
    assert before == {path: path.stat().st_mtime_ns for path in (shared / "two").rglob("*")}
    assert preprocess.plan(config_for(shared, shared / "two"))[0][0] == "already done"
    shard = shared / "two" / "data" / "train" / "000000.tar"
    shard.rename(shard.with_suffix(".away"))
    with pytest.raises(UserError, match=r"000000\.tar is missing"):
        preprocess.run(config_for(shared, shared / "two"))
    shard.with_suffix(".away").rename(shard)
    with pytest.raises(UserError) as error:
        preprocess.run(config_for(shared, shared / "two", "corpus.text_field=body", "tokenizer.vocab_size=600"))
    assert "corpus.text_field: was text, is body" in str(error.value)
    assert "tokenizer.vocab_size: was 700, is 600" in str(error.value)
    with (shared / "corpus" / "a.txt").open("a") as file:
        file.write("\n\nmore")
    try:
        with pytest.raises(UserError, match=r"a\.txt had [\d,]+ bytes, has [\d,]+"):
            preprocess.run(config_for(shared, shared / "two"))
    finally:
        content = (shared / "corpus" / "a.txt").read_bytes()
        (shared / "corpus" / "a.txt").write_bytes(content.removesuffix(b"\n\nmore"))


@pytest.mark.slow
def test_plan_writes_nothing(shared: Path) -> None:
    lines = dict(preprocess.plan(config_for(shared, shared / "planned")))
    assert lines["files"] == "156"
    assert int(lines["tasks"].split()[0]) > 10
    assert not (shared / "planned").exists()
    other = preprocess.plan(config_for(shared, shared / "planned", f"data.path={shared / 'two'}"))
    assert other == [("already done", str(shared / "two" / "data" / "manifest.json"))]
