"""Subsets: balanced at every size, nested, the same for the same seed."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import open_task
from pipeline.tasks.subsets import score_bins, stratified_order

STRATA = ["a"] * 60 + ["b"] * 30 + ["c"] * 9 + ["d"]


@pytest.mark.parametrize("seed", range(3))
def test_every_class_comes_first_and_then_by_its_share(seed: int) -> None:
    order = stratified_order(STRATA, len(STRATA), seed)
    assert sorted(order) == list(range(100))
    assert [STRATA[place] for place in order[:4]] == ["a", "b", "c", "d"]
    for size in (10, 20, 50, 100):
        counts = Counter(STRATA[place] for place in order[:size])
        for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.09)):
            assert abs(counts[name] - share * size) <= 2, (size, counts)


def test_fewer_examples_than_classes_take_the_commonest() -> None:
    assert [STRATA[place] for place in stratified_order(STRATA, 100, 0)[:2]] == ["a", "b"]


def test_seeds_draw_differently_and_repeatably() -> None:
    drawn = [stratified_order(STRATA, 100, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0][:8]) < set(drawn[0][:32])


def test_without_classes_any_order_is_as_good() -> None:
    order = stratified_order(None, 50, 7)
    assert sorted(order) == list(range(50)) != order


def test_scores_are_drawn_by_quarters_and_equal_ones_stay_together() -> None:
    scores = [float(n * 37 % 100) for n in range(100)]  # 0 to 99, mixed
    bins = score_bins(scores)
    assert all(place == score // 25 for place, score in zip(bins, scores, strict=True))
    for size in (4, 8, 40):
        drawn = stratified_order(bins, 100, 1)[:size]
        assert Counter(scores[place] // 25 for place in drawn) == dict.fromkeys((0, 1, 2, 3), size / 4)
    assert len(set(score_bins([0.0] * 70 + [5.0] * 30))) == 2


def test_families_say_what_makes_examples_alike(tmp_path: Path) -> None:
    """Scores by quarter; sentences by their rarest kind of entity; questions by whether there is an answer."""
    tags = [["O"], ["B-PER", "O"], ["B-PER", "I-PER", "B-LOC"], ["B-LOC", "B-ORG"], ["B-PER"], ["B-LOC"], ["B-LOC"]]
    tagged = [{"tokens": ["x"] * len(row), "tags": row} for row in tags]
    assert strata(tmp_path, "tagging", tagged) == ["O", "PER", "PER", "ORG", "PER", "LOC", "LOC"]
    answers = ({"text": ["a"], "answer_start": [0]}, {"text": [], "answer_start": []})
    asked = [{"question": "q", "context": "a b", "answers": answers[n % 2]} for n in range(3)]
    assert strata(tmp_path, "question_answering", asked) == [True, False, True]
    scored = [{"sentence1": "a", "sentence2": "b", "score": score} for score in (4, 1, 3, 2, 5)]
    for family in ("regression", "similarity"):
        found = strata(tmp_path, family, scored)
        assert [place for _, place in sorted(zip((4, 1, 3, 2, 5), found, strict=True))] == sorted(found)
        assert set(found) == {0, 1, 2, 3}


def strata(folder: Path, family: str, records: list[dict[str, Any]]) -> list[Any]:
    (folder / "file.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    files = {split: str(folder / "file.jsonl") for split in ("train", "dev")}
    found = open_task(FinetuneConfig(family=family, **files)).strata()
    assert found is not None
    return found
