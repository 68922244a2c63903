"""On Ray with one worker and two, on a store, and the recall and precision that the docs promise."""

import json
import random
from pathlib import Path
from typing import Any, cast

import pytest
import zstandard

from pipeline.base.sections import RayConfig
from pipeline.base.storage import place_of
from pipeline.base.workers import connected
from pipeline.duplicates.drops import read_drops
from pipeline.duplicates.find import find_duplicates
from pipeline.duplicates.index import save_index
from tests.pipeline.duplicates.copies import (
    Here,
    changed,
    config_of,
    corpus_with_copies,
    cut,
    drops_of,
    found_in,
    save_keys,
)
from tests.s3_server import S3Server

ALL = {"documents": True, "near": True, "paragraphs": True}


@pytest.mark.slow
def test_one_worker_and_two_write_the_same_bytes(tmp_path: Path) -> None:
    texts, _ = corpus_with_copies(21, 150)
    tasks, config = cut(texts, [20]), config_of(**ALL)
    folders = save_keys(config, tasks, tmp_path / "keys")
    totals = []
    for cpus in (1, 2):
        with connected(RayConfig(address="local", num_cpus=cpus)) as workers:
            out = tmp_path / str(cpus)
            totals.append(find_duplicates(config, folders, len(tasks), out, workers))
            save_index(config, folders, len(tasks), out, out / "index", workers)
    assert totals[0] == totals[1]
    assert totals[0] == find_duplicates(config, folders, len(tasks), tmp_path / "here", cast(Any, Here()))
    for path in (tmp_path / "1").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "2" / path.relative_to(tmp_path / "1")).read_bytes()


@pytest.mark.slow
def test_keys_and_results_in_a_store(tmp_path: Path, s3: S3Server) -> None:
    texts, _ = corpus_with_copies(22, 60)
    config, tasks = config_of(**ALL), cut(texts[:40], [15])
    place = cast(Path, place_of(s3.url) / "work")
    folders = save_keys(config, tasks, place / "keys")
    find_duplicates(config, folders, len(tasks), place / "out", cast(Any, Here()))
    _, *expected = found_in(config, tasks, tmp_path / "first")
    assert list(drops_of(tasks, place / "out")) == expected
    save_index(config, folders, len(tasks), place / "out", place / "index", cast(Any, Here()))
    grown = found_in(config, cut(texts[40:], [15]), tmp_path / "more", place / "index")
    dropped, cuts = found_in(config, cut(texts, [15]), tmp_path / "once")[1:]
    assert grown[1] == {number - 40: kind for number, kind in dropped.items() if number >= 40}
    assert grown[2] == {(number - 40, paragraph) for number, paragraph in cuts if number >= 40}
    left = {path.name for path in (place / "out").iterdir()}
    assert not left & {"bands", "asked", "similar", "same", "paragraphs", "counts"}
    assert len(read_drops(place / "out", 0).documents) > 0


def test_planted_copies_of_real_texts(real_data: Path, tmp_path: Path) -> None:
    """English words and Chinese characters, 5 % of them changed, in texts of many lengths."""
    for language, join, least, most in (("en", " ", 60, 1500), ("zh", "", 150, 3000)):
        chance, texts = random.Random(5), []
        with zstandard.open(
            real_data / "corpus" / language / f"{language}-00.jsonl.zst", "rt", encoding="utf-8"
        ) as file:
            for line in file:
                text = json.loads(line)["text"]
                tokens = text.split() if join else list(text)
                length = int(least * (most / least) ** chance.random())
                if len(tokens) >= length and len(texts) < 600:
                    texts.append(tokens[:length])
        copies = [changed(tokens, chance) for tokens in texts]
        together = [join.join(tokens) for tokens in texts + copies]
        _, dropped, _ = found_in(config_of(documents=True, near={}), cut(together, [100]), tmp_path / language)
        right = sum(number >= len(texts) for number in dropped)
        assert right / len(copies) >= 0.95
        assert right / len(dropped) >= 0.99
