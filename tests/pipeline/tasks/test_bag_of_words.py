"""The linear model against scikit-learn put together by hand, and on what only a pair's overlap tells."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union

from pipeline.tasks.bag_of_words import STRENGTHS, bag_of_words, spaceless


class Toy:
    """As much of a Task as the baseline needs."""

    selection = "score"

    def __init__(self, splits: dict[str, tuple[list[str], list[Any]]], scores: bool = False) -> None:
        self.data, self.scores, self.answers = splits, scores, {}
        self.splits = tuple(splits)

    def plain(self, split: str) -> tuple[list[str], list[Any]]:
        return self.data[split]

    def plain_metrics(self, split: str, answers: Sequence[Any]) -> dict[str, float]:
        self.answers.setdefault(split, []).append(list(answers))
        right = self.data[split][1]
        if self.scores:
            return {"score": float(spearmanr(right, answers).statistic)}
        return {"score": float(np.mean([a == b for a, b in zip(right, answers, strict=True)]))}


def texts(size: int, seed: int, telling: tuple[str, str], space: str = " ") -> tuple[list[str], list[Any]]:
    draw = random.Random(seed)
    found, labels = [], []
    for _ in range(size):
        label = draw.randrange(2)
        words = [f"{chr(0x4E00 + draw.randrange(60))}" if not space else f"w{draw.randrange(60)}" for _ in range(8)]
        words.insert(draw.randrange(8), telling[label])
        found.append(space.join(words))
        labels.append(label)
    return found, labels


def test_is_logistic_regression_on_tf_idf_with_the_strength_that_dev_likes() -> None:
    data = {split: texts(60, seed, ("bad", "good")) for seed, split in enumerate(("train", "dev", "test"))}
    found = bag_of_words(Toy(data))  # type: ignore[arg-type]
    common: dict[str, Any] = {"sublinear_tf": True}
    union = make_union(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", **common),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **common),
    )
    train = union.fit_transform(data["train"][0])
    scored = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300).fit(train, data["train"][1])
        dev, test = (np.mean(model.predict(union.transform(data[s][0])) == data[s][1]) for s in ("dev", "test"))
        scored.append((dev, test))
    best = max(scored, key=lambda pair: pair[0])
    assert found is not None
    assert found.figures == {"dev": {"score": best[0]}, "test": {"score": best[1]}}
    assert best[0] > 0.9


def test_text_without_spaces_is_taken_by_characters() -> None:
    data = {split: texts(80, seed, ("坏", "好"), space="") for seed, split in enumerate(("train", "dev"))}
    found = bag_of_words(Toy(data))  # type: ignore[arg-type]
    assert found is not None
    assert found.figures["dev"]["score"] > 0.9
    assert spaceless(data["train"][0])
    assert not spaceless(["plain English words, and one 字"])


def pairs(size: int, seed: int) -> tuple[list[str], list[Any]]:
    """The score is the share of common words: no word by itself tells anything."""
    draw = random.Random(seed)
    found, scores = [], []
    for _ in range(size):
        first = [f"w{draw.randrange(500)}" for _ in range(8)]
        same = draw.randrange(9)
        second = first[:same] + [f"w{draw.randrange(500)}" for _ in range(8 - same)]
        draw.shuffle(second)
        found.append(f"{' '.join(first)} || {' '.join(second)}")
        scores.append(same / 8)
    return found, scores


def test_the_score_of_a_pair_is_learned_from_what_both_have() -> None:
    data = {split: pairs(150, seed) for seed, split in enumerate(("train", "dev"))}
    found = bag_of_words(Toy(data, scores=True))  # type: ignore[arg-type]
    assert found is not None
    assert found.figures["dev"]["score"] > 0.9


def test_one_class_only_is_always_answered() -> None:
    train, dev = (["good film", "good plot"], [1, 1]), (["good", "bad"], [1, 0])
    found = bag_of_words(Toy({"train": train, "dev": dev}))  # type: ignore[arg-type]
    assert found is not None
    assert found.figures["dev"] == {"score": 0.5}


@pytest.mark.parametrize("text", ["a", "…"])
def test_very_short_texts_are_counted_too(text: str) -> None:
    data = ([text, "b"] * 4, [0, 1] * 4)
    found = bag_of_words(Toy({"train": data, "dev": data}))  # type: ignore[arg-type]
    assert found is not None
    assert found.figures["dev"] == {"score": 1.0}
