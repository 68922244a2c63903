"""Killed at any of its file operations, the stage goes on to the same bytes, and does again only what was under way."""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest

from pipeline.base.files import is_aside
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


def die_often(run: RunFolder, whole: RunFolder, settings: tuple[Path, list[str]], folder: Path, seed: int) -> None:
    """Runs the stage undisturbed in `whole`, and in `run` through deaths at random operations; compares all of it."""
    corpus, more = settings
    (folder / "notes").unlink(missing_ok=True)
    (folder / "begun").unlink(missing_ok=True)
    assert life(settings_of(whole, corpus, *more), folder / "notes", 0) == 0
    *notes, operations = (folder / "notes").read_text().splitlines()
    total, deaths, draw = int(operations.split()[-1]), 0, random.Random(seed)
    # Lives get longer by and by: the work that no task remembers has to fit into one of them.
    while code := life(
        settings_of(run, corpus, *more), folder / "begun", draw.randint(1, total // 8 + deaths * total // 60)
    ):
        assert code == -signal.SIGKILL
        deaths += 1
        assert deaths < LIVES
    assert deaths > 3
    assert digests(run.path) == digests(whole.path)
    first, second = (read_manifest(one.manifest) for one in (run, whole))
    assert first.model_copy(update={"config": {}}) == second.model_copy(update={"config": {}})
    left, wanted = ({path.relative_to(one.path) for path in one.kept.rglob("*")} for one in (run, whole))
    assert {path for path in left if not is_aside(path.name)} == wanted
    assert not [path for path in left if path.parts[0] == "data" and is_aside(path.name)], "nothing half-written"
    begun = [line for line in (folder / "begun").read_text().splitlines() if not line.startswith("operations")]
    assert set(begun) == set(notes)
    assert len(begun) - len(set(begun)) <= deaths, "only what was under way is done again"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("more", [[], CLEAN], ids=["plain", "clean"])
def test_killed_at_file_operations(tmp_path: Path, corpus: Path, more: list[str], seed: int) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    whole, killed = RunFolder(tmp_path / "whole" / "run"), RunFolder(tmp_path / "killed" / "run")
    die_often(killed, whole, (folder, more), tmp_path, seed)
    lines = [json.dumps({"text": text}) for text in [*make_texts(7, 50), *make_texts(5, 5)]]
    (folder / "c.jsonl").write_text("\n".join([*lines, "{"]))
    die_often(killed, whole, (folder, more), tmp_path, seed)
    assert read_manifest(killed.manifest).version == 2
