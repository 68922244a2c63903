import math

import pytest
import torch
from sklearn.metrics import f1_score, matthews_corrcoef

from pipeline.tasks.batches import WINDOW, pad, shuffled_batches, sorted_batches
from pipeline.tasks.encoding import encode_texts
from pipeline.tasks.metrics import classification_metrics
from tests.pipeline.tasks.tiny_folders import SPECIAL, WORDS, tiny_tokenizer


@pytest.mark.parametrize("count", [1, 7, 64, 1000])
@pytest.mark.parametrize("size", [1, 4, 32])
def test_batches_hold_every_text_once_and_repeat_by_seed_and_epoch(count: int, size: int) -> None:
    lengths = [(index * 7919) % 97 for index in range(count)]
    batches = shuffled_batches(lengths, size, seed=3, epoch=1)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert len(batches) == math.ceil(count / size)
    assert batches == shuffled_batches(lengths, size, seed=3, epoch=1)
    if count == 1000:
        assert batches != shuffled_batches(lengths, size, seed=3, epoch=2)
        assert batches != shuffled_batches(lengths, size, seed=4, epoch=1)
    ordered = sorted_batches(lengths, size)
    assert sorted(index for batch in ordered for index in batch) == list(range(count))


def test_batches_need_little_padding() -> None:
    lengths = [5 + (index * 7919) % 120 for index in range(WINDOW * 32)]
    batches = shuffled_batches(lengths, 32, seed=0, epoch=1)
    places = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    assert places < 1.05 * sum(lengths)


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = pad([[2, 9, 3], [2, 3]], pad_id=7)
    assert ids.tolist() == [[2, 9, 3], [2, 3, 7]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_special_names_in_a_text_are_words_and_long_texts_are_counted() -> None:
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    ids, cut = encode_texts(tiny_tokenizer(), ["good [MASK] film", "a " * 30, "a " * 6], max_length=8)
    assert ids[0] == [2, *(vocabulary[word] for word in ("good", "[", "MASK", "]", "film")), 3]
    assert [len(row) for row in ids] == [7, 8, 8]
    assert ids[1][-1] == 3
    assert cut == [1]


def test_binary_figures_by_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(200, generator=generator) < 0.3).long()
    predicted = torch.where(torch.rand(200, generator=generator) < 0.8, targets, 1 - targets)
    tp, fp = int((predicted * targets).sum()), int((predicted * (1 - targets)).sum())
    fn, tn = int(((1 - predicted) * targets).sum()), int(((1 - predicted) * (1 - targets)).sum())
    figures = classification_metrics(targets.tolist(), predicted.tolist(), 2)
    assert figures["accuracy"] == pytest.approx((tp + tn) / 200)
    assert figures["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    assert figures["matthews"] == pytest.approx((tp * tn - fp * fn) / math.sqrt(product))


def test_many_labels_are_averaged_over_all_of_them() -> None:
    targets, predicted = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2]
    figures = classification_metrics(targets, predicted, 4)
    each = f1_score(targets, predicted, labels=[0, 1, 2, 3], average=None, zero_division=0.0)
    assert figures["f1"] == pytest.approx(sum(each) / 4)
    assert figures["matthews"] == pytest.approx(matthews_corrcoef(targets, predicted))


@pytest.mark.filterwarnings("error")
def test_a_constant_prediction_is_worth_nothing() -> None:
    assert classification_metrics([0, 1, 1], [0, 0, 0], 2) == {"accuracy": 1 / 3, "f1": 0.0, "matthews": 0.0}
    assert classification_metrics([1, 1], [1, 1], 2) == {"accuracy": 1.0, "f1": 1.0, "matthews": 0.0}
