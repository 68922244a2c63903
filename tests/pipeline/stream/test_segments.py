"""Sequences: where [CLS] and [SEP] go, which document and segment each position belongs to. Hand-written arrays."""

import numpy as np
import pytest

from pipeline.stream.segments import content_length, frame, split_points

CONTENT = np.array([[10, 11, 3, 12, 13], [20, 3, 21, 22, 3]], np.uint16)
NUMBERS = np.array([[4, 4, 4, 5, 5], [0, 0, 1, 1, 1]], np.int32)


def test_one_segment() -> None:
    assert content_length(7, "none") == 5
    framed = frame(CONTENT, NUMBERS, None)
    assert framed.ids.tolist() == [[2, 10, 11, 3, 12, 13, 3], [2, 20, 3, 21, 22, 3, 3]]
    assert framed.documents is not None
    assert framed.documents.tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1]]
    assert framed.segments is None
    assert framed.ids.dtype == framed.documents.dtype == np.int64


def test_two_segments() -> None:
    assert content_length(8, "paper") == 5
    framed = frame(CONTENT, NUMBERS, np.array([3, 1]))
    assert framed.ids.tolist() == [[2, 10, 11, 3, 3, 12, 13, 3], [2, 20, 3, 3, 21, 22, 3, 3]]
    assert framed.documents is not None
    assert framed.documents.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1]]
    assert framed.segments is not None
    assert framed.segments.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1]]


def test_documents_not_told_apart() -> None:
    assert frame(CONTENT, None, None).documents is None
    assert frame(CONTENT, None, np.array([4, 4])).documents is None


def test_no_rows() -> None:
    framed = frame(CONTENT[:0], NUMBERS[:0], np.zeros(0, np.int64))
    assert framed.ids.shape == (0, 8)


@pytest.mark.parametrize("content", [5, 125])
def test_split_points_are_uniform_and_leave_no_segment_empty(content: int) -> None:
    samples = np.arange(200 * content)
    splits = split_points(samples, 7, content)
    counts = np.bincount(splits, minlength=content)
    assert counts[0] == 0
    assert len(counts) == content  # from 1 to content - 1
    expected = len(samples) / (content - 1)
    statistic = ((counts[1:] - expected) ** 2 / expected).sum()
    freedom = content - 2
    assert statistic < freedom + 5 * np.sqrt(2 * freedom)


def test_split_points_depend_on_seed_and_sample_alone() -> None:
    samples = np.arange(100)
    splits = split_points(samples, 7, 125)
    np.testing.assert_array_equal(split_points(samples[::-3], 7, 125), splits[::-3])
    assert (split_points(samples, 8, 125) != splits).mean() > 0.9
    assert split_points(np.array([2**62]), 2**64 - 1, 125).dtype == np.int64
