"""Counts of lengths: exact below 1,024, by ten binary digits above, the same added in parts."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.length_counts import LengthCounts

lengths = st.lists(st.one_of(st.integers(1, 3000), st.integers(1, 1 << 50)), max_size=40)


def rounded(length: int) -> int:
    """By its digits, written out."""
    digits = f"{length:b}"
    return int(digits[:10] + "0" * len(digits[10:]), 2)


@given(first=lengths, second=lengths)
def test_lengths_by_their_first_digits(first: list[int], second: list[int]) -> None:
    whole, part = LengthCounts(), LengthCounts()
    whole.add(np.array(first, np.int64))
    part.add(np.array(second, np.int64))
    packed = LengthCounts()
    packed.add_packed(whole.packed())
    packed.add_packed(part.packed())
    whole.add_bins(part.bins())
    assert whole.by_length() == packed.by_length() == Counter(map(rounded, [*first, *second]))


def test_neighbouring_bins() -> None:
    counts = LengthCounts()
    counts.add(np.arange(1, 5000))
    assert counts.by_length() == Counter(map(rounded, range(1, 5000)))
    numbers, documents = counts.bins()
    assert numbers == list(range(1, len(numbers) + 1))
    assert sum(documents) == 4999
