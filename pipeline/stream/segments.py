"""Sequences from content: [CLS] content [SEP], or two segments, [CLS] a [SEP] b [SEP], of token types 0 and 1.

Every sequence takes the same number of tokens from the stream, so that places stay arithmetic. Price: the two segments
are neighbours in the stream, split anywhere and not at a sentence; no sequence has one segment, none is cut short
(ELECTRA's released code fills the first to about half by whole sentences, keeps 10 % in one and shortens 5 %).
"""

from typing import Any, Literal, NamedTuple

import numpy as np

from model.config import CLS_ID, SEP_ID

Array = np.ndarray[Any, np.dtype[Any]]
Segments = Literal["none", "paper"]


class Framed(NamedTuple):
    """Sequences, (n, seq) int64 each: ids; document number per position or None; token types or None."""

    ids: Array
    documents: Array | None
    segments: Array | None


def content_length(sequence_length: int, segments: Segments) -> int:
    """Tokens of the stream in a sequence: its length without [CLS] and the added [SEP]s."""
    return sequence_length - (3 if segments == "paper" else 2)


def split_points(samples: Array, seed: int, content: int) -> Array:
    """Length of the first segment, (n,) int64, uniform in [1, content - 1], drawn from (seed, sample) alone.

    samples (n,): global index. By SplitMix64 (Steele, Lea, Flood 2014) of the two numbers: counter-based, so that a
    sample's split does not depend on the batch or rank that reads it.
    """
    return 1 + (mixed(samples, seed) % np.uint64(content - 1)).astype(np.int64)


def mixed(numbers: Array, seed: int) -> Array:
    """64 random bits for each number (n,), from (seed, number) alone; uint64."""
    return _mix(numbers.astype(np.uint64) + _mix(np.array([seed & ((1 << 64) - 1)], np.uint64)))


def _mix(words: Array) -> Array:
    words = words * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def frame(content: Array, numbers: Array | None, splits: Array | None) -> Framed:
    """Sequences from content (n, content).

    numbers (n, content): number of the document that each token belongs to, never falling along a row; None where
    documents are not told apart. splits (n,): lengths of the first segments; None for a single segment.
    Returned documents are counted from 0 in each sequence; [CLS] belongs to the first one, an added [SEP] to the
    document of the token before it.
    """
    rows, length = content.shape
    position = np.arange(length + (2 if splits is None else 3))[None, :]
    middle = np.full((rows, 1), length + 1) if splits is None else splits[:, None] + 1  # place of the first added [SEP]
    source = np.clip(position - 1 - (position >= middle), 0, length - 1)
    ids = np.take_along_axis(content, source, axis=1).astype(np.int64)
    ids[:, 0] = CLS_ID
    np.put_along_axis(ids, middle, SEP_ID, axis=1)
    ids[:, -1] = SEP_ID
    documents = None
    if numbers is not None:
        documents = np.take_along_axis(numbers - numbers[:, :1], source, axis=1).astype(np.int64)
    segments = None if splits is None else (position > middle).astype(np.int64)
    return Framed(ids, documents, segments)
