"""Killed at any of its file operations, the stage goes on to the same bytes, and does again only what was under way."""

import json
import random
import signal
from pathlib import Path

import pytest

from pipeline.base.run_folder import RunFolder
from pipeline.shards.manifest import read_manifest
from tests.corpora import digests, make_texts
from tests.in_process import life

CLEAN = ["corpus.clean.length.min_words=3", "corpus.deduplicate={documents: true, near: true, paragraphs: true}"]
LIVES = 300


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two files, with a bad record and a few repeated documents."""
    folder = tmp_path_factory.mktemp("deaths") / "corpus"
    folder.mkdir()
    texts = make_texts(5, 60)
    lines = [json.dumps({"text": text}) for text in [*texts, *texts[:7]]]
    (folder / "a.jsonl").write_text("\n".join([*lines[:20], "{", *lines[20:]]))
    (folder / "b.txt").write_text("\n\n".join(make_texts(6, 40)))
    return folder


def settings_of(run: RunFolder, corpus: Path, *more: str) -> list[str]:
    fixed = ["corpus.task_bytes=6000", "corpus.validation_fraction=0.1", "tokenizer.vocab_size=400"]
    sizes = ["data.block_tokens=256", "data.shard_blocks=5", "corpus.max_bad_fraction=0.1"]
    return [f"run_dir={run.path}", f"corpus.paths=[{corpus}]", *fixed, *sizes, *more]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("more", [[], CLEAN], ids=["plain", "clean"])
def test_killed_at_file_operations(tmp_path: Path, corpus: Path, more: list[str], seed: int) -> None:
    whole, killed = RunFolder(tmp_path / "whole" / "run"), RunFolder(tmp_path / "killed" / "run")
    assert life(settings_of(whole, corpus, *more), tmp_path / "notes", 0) == 0
    *notes, operations = (tmp_path / "notes").read_text().splitlines()
    most = int(operations.split()[-1]) // 4
    draw, deaths = random.Random(seed), 0
    while code := life(settings_of(killed, corpus, *more), tmp_path / "begun", draw.randint(1, most)):
        assert code == -signal.SIGKILL
        deaths += 1
        assert deaths < LIVES
    assert deaths > 3
    assert digests(killed.path) == digests(whole.path)
    first, second = (read_manifest(run.manifest) for run in (killed, whole))
    assert first.model_copy(update={"config": {}}) == second.model_copy(update={"config": {}})
    left, wanted = ({path.relative_to(run.path) for path in run.path.rglob("*")} for run in (killed, whole))
    assert left == wanted, "nothing half-written"
    *begun, _ = (tmp_path / "begun").read_text().splitlines()
    assert set(begun) == set(notes)
    assert len(begun) - len(set(begun)) <= deaths, "only what was under way is done again"
