"""The tokenizer's sample is bounded, the same however the corpus is cut, and seeded; splits follow the text."""

import random
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.documents import VALIDATION, split_of, text_digest
from pipeline.corpus.sample import Reservoir, chosen_units, cut_units, task_quota

TEXTS = [f"text {number} " * (1 + number % 50) for number in range(2000)]
SIZE = sum(len(text) for text in TEXTS)


def sample(folder: Path, tasks: int, sample_bytes: int, seed: int = 0) -> list[str]:
    files = []
    for task in range(tasks):
        texts = TEXTS[task * len(TEXTS) // tasks : (task + 1) * len(TEXTS) // tasks]
        weight = sum(map(len, texts))
        reservoir = Reservoir(seed, task_quota(sample_bytes, weight, SIZE), sample_bytes)
        for text in texts:
            reservoir.add(text, 0)
        files.append(folder / f"{tasks}-{task}")
        reservoir.save(files[-1])
    return list(chosen_units(files, sample_bytes))


@pytest.mark.parametrize("sample_bytes", [5_000, 50_000, 10_000_000])
def test_bounded_and_independent_of_the_cut(tmp_path: Path, sample_bytes: int) -> None:
    one = sample(tmp_path, 1, sample_bytes)
    assert one == sample(tmp_path, 7, sample_bytes)
    size = sum(len(unit) for unit in one)
    assert size <= sample_bytes
    assert size > 0.9 * min(sample_bytes, SIZE)
    if sample_bytes > SIZE:
        assert "".join(one) == "".join(TEXTS)
    else:
        assert one != sample(tmp_path, 1, sample_bytes, seed=1)


def saved(path: Path, units: list[tuple[int, str, int]]) -> Path:
    """A task's file of units, each with its key and its document."""
    path.write_bytes("".join(text for _, text, _ in units).encode())
    rows = [(key, len(text.encode()), document) for key, text, document in units]
    np.save(f"{path}.npy", np.array(rows, np.uint64).reshape(-1, 3))
    return path


@pytest.mark.parametrize("sample_bytes", [1, 700, 20_000, 10_000_000])
@pytest.mark.parametrize("drops", [True, False])
def test_the_smallest_keys_of_all_tasks_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_bytes: int, drops: bool
) -> None:
    """Against all units sorted at once, with keys that many share and tasks without a unit."""
    draw = random.Random(sample_bytes)
    tasks = [
        [
            (draw.choice([draw.randrange(40), draw.getrandbits(64)]), draw.choice("aé漢") * draw.randint(1, 60), n // 2)
            for n in range(draw.choice([0, 1, draw.randint(0, 60)]))
        ]
        for _ in range(45)
    ]
    files = [saved(tmp_path / str(number), units) for number, units in enumerate(tasks)]
    dropped = [np.array([n for n in range(30) if drops and draw.random() < 0.3], np.int64) for _ in tasks]
    every = [
        (key, task, row, text)
        for task, units in enumerate(tasks)
        for row, (key, text, document) in enumerate(units)
        if document not in dropped[task]
    ]
    expected, size = [], 0
    for unit in sorted(every):
        size += len(unit[3].encode())
        if size > sample_bytes:
            break
        expected.append(unit[1:])
    for pruned in (1, 7, 100):
        monkeypatch.setattr("pipeline.corpus.sample.PRUNED", pruned)
        found = list(chosen_units(files, sample_bytes, (lambda task: dropped[task]) if drops else None))
        assert found == [text for _, _, text in sorted(expected)]
    assert list(chosen_units([], sample_bytes)) == []


def test_quota_bounds_a_task(tmp_path: Path) -> None:
    reservoir = Reservoir(0, 3_000, 10_000)
    for text in TEXTS:
        reservoir.add(text, 0)
        assert reservoir.size <= 3_000
    assert reservoir.size > 2_000


def test_units_put_together_are_the_text() -> None:
    text = "word " * 50 + "x" * 300 + "\nline\n" * 40
    for most in (1, 7, 64, 1000):
        units = list(cut_units(text, most))
        assert "".join(units) == text
        assert max(map(len, units)) <= most


def test_split_follows_the_text_alone() -> None:
    digests = [text_digest(text) for text in TEXTS]
    drawn = {
        fraction: {digest for digest in digests if split_of(digest, fraction) == VALIDATION}
        for fraction in (0.0, 0.05, 0.2, 1.0)
    }
    assert not drawn[0.0]
    assert len(drawn[1.0]) == len(set(digests))
    assert drawn[0.05] < drawn[0.2]
    assert 60 < len(drawn[0.05]) < 140
