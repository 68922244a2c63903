"""Subsets: balanced at every size, nested, the same for the same seed."""

from collections import Counter

import pytest

from pipeline.tasks.subsets import stratified_order

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
