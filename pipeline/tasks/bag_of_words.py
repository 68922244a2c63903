"""A linear model over words and characters (scikit-learn): what a task yields to counting, without any pretraining.

Features are tf-idf weights, logarithmic in the count: words and pairs of words, and runs of 3 to 5 characters within
words (Wang and Manning 2012 show how far words and bigrams go); for text without spaces runs of 1 to 3 characters.
Two texts: the features of each, their products (what both have), their absolute differences, and two numbers, the
cosine of the two and the share of words in common. Classes by logistic regression, scores by ridge regression; the
strength of the regularisation is chosen on dev, as fine-tuning chooses its epoch there. The result has no randomness.
Price: the features of all splits are held in memory, sparse.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import write_json
from pipeline.base.log import get_logger
from pipeline.tasks.families.base import Task, open_task
from pipeline.tasks.identity import METRICS
from pipeline.tasks.subsets import limited

PAIR = " || "
"""What Task.plain joins two texts by."""
MAX_FEATURES = 200_000
"""Of words and of characters, the commonest ones."""
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of regularisation to choose from on dev: C of logistic regression, 1 / alpha of ridge."""
SPACELESS_SHARE = 0.2
"""Texts with a larger share of characters of scripts that are written without spaces are taken by characters."""
_SPACELESS = ((0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))
"""Thai, Lao, Burmese, Khmer, kana, Han."""

Matrix = Any
"""A scipy CSR matrix."""


@dataclass(frozen=True)
class Baseline:
    """What the linear model reached."""

    figures: dict[str, dict[str, float]]
    """Split (dev, test) to metrics."""
    examples: int
    """It learnt from."""


def bag_of_words(task: Task) -> Baseline | None:
    """Learns from the task's training examples and scores dev and test; None where the family has no such baseline.

    Raises UserError where no text has a word or character that could be counted.
    """
    training = task.plain("train")
    if training is None:
        return None
    texts, targets = training
    splits = {split: task.plain(split) for split in task.splits if split != "train"}
    try:
        features = _Features(texts)
    except ValueError as error:
        raise UserError(f"finetune.bag_of_words: the training texts have nothing to count ({error}).") from error
    known = features.of(texts)
    inputs = {split: features.of(found[0]) for split, found in splits.items() if found is not None}
    best: tuple[float, Any] | None = None
    for model in _fitted(known, targets):
        reached = task.plain_metrics("dev", _answers(model, inputs["dev"]))
        score = reached.get(task.selection, next(iter(reached.values())))
        if best is None or score > best[0]:
            best = (score, model)
    assert best is not None
    figures = {split: task.plain_metrics(split, _answers(best[1], inputs[split])) for split in inputs}
    return Baseline(figures, len(texts))


def add_bag_of_words(config: RunConfig, target: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Adds dev/bag_of_words_accuracy and the like to a finished fine-tuning's metrics.json, unless they are there."""
    settings = config.finetune
    if not settings.bag_of_words or any("/bag_of_words_" in key for key in metrics):
        return metrics
    baseline = bag_of_words(limited(open_task(settings), settings, config.seed))
    if baseline is None:
        get_logger().info(f"no bag-of-words baseline: the family {settings.family} has none")
        return metrics
    for split, figures in baseline.figures.items():
        named = {f"finetune/{settings.name}/{split}/bag_of_words_{name}": value for name, value in figures.items()}
        metrics = metrics | named
    write_json(target / METRICS, metrics)
    return metrics


def spaceless(texts: Sequence[str]) -> bool:
    """Whether the texts are written without spaces between words, as Chinese is."""
    text = "".join(texts[:1000])
    count = sum(any(low <= ord(character) <= high for low, high in _SPACELESS) for character in text)
    return count > SPACELESS_SHARE * len(text)


class _Features:
    """The vectoriser, fitted on the training texts alone."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.pairs = all(PAIR in text for text in texts)
        common: dict[str, Any] = {"sublinear_tf": True, "max_features": MAX_FEATURES, "dtype": np.float64}
        if spaceless(texts):
            parts = [("characters", TfidfVectorizer(analyzer="char", ngram_range=(1, 3), **common))]
        else:
            words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", **common)
            characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **common)
            parts = [("words", words), ("characters", characters)]
        self._vectoriser = FeatureUnion(parts)
        self._counted = parts[0][0]
        self._vectoriser.fit([part for text in texts for part in text.split(PAIR, 1)] if self.pairs else list(texts))

    def of(self, texts: Sequence[str]) -> Matrix:
        """(texts, features), CSR, float64."""
        if not self.pairs:
            return sparse.csr_matrix(self._vectoriser.transform(texts))
        halves = [text.partition(PAIR) for text in texts]
        first = sparse.csr_matrix(self._vectoriser.transform([half[0] for half in halves]))
        second = sparse.csr_matrix(self._vectoriser.transform([half[2] for half in halves]))
        both = first.multiply(second)
        return sparse.csr_matrix(sparse.hstack([first, second, both, abs(first - second), self._alike(first, second)]))

    def _alike(self, first: Matrix, second: Matrix) -> Matrix:
        """(texts, 2): cosine of the two texts' features, and the Jaccard index of the words (characters) in them."""
        norms = np.sqrt(_sums(first.multiply(first)) * _sums(second.multiply(second)))
        cosine = _sums(first.multiply(second)) / np.maximum(norms, 1e-12)
        width = len(dict(self._vectoriser.transformer_list)[self._counted].vocabulary_)
        one, two = first[:, :width] > 0, second[:, :width] > 0
        shared = _sums(one.multiply(two))
        return sparse.csr_matrix(np.stack([cosine, shared / np.maximum(_sums(one) + _sums(two) - shared, 1)], axis=1))


def _sums(matrix: Matrix) -> np.ndarray:
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()


class _Constant:
    """Where training has one class only there is one answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, inputs: Matrix) -> np.ndarray:
        return np.full(inputs.shape[0], self.answer)


def _fitted(known: Matrix, targets: Sequence[Any]) -> list[Any]:
    """A model a strength; the targets are class indices (int) or scores (float)."""
    if len(set(targets)) == 1:
        return [_Constant(targets[0])]
    if all(isinstance(target, int) for target in targets):
        models: list[Any] = [LogisticRegression(C=strength, max_iter=300) for strength in STRENGTHS]
    else:
        models = [Ridge(alpha=1 / strength, solver="sparse_cg") for strength in STRENGTHS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [model.fit(known, targets) for model in models]


def _answers(model: Any, inputs: Matrix) -> list[Any]:
    return list(model.predict(inputs).tolist())
