"""How many documents have which length, in bins that are exact below 1,024 and to 0.2 % above: ten binary digits.

Counts of many tasks are added as arrays, so that the driver spends microseconds on each. Price: the exact length of a
long document is not known.
"""

from base64 import b64decode, b64encode
from collections import Counter
from typing import Any

import numpy as np

DIGITS = 10
HALF = 1 << (DIGITS - 1)
BINS = HALF * (64 - DIGITS + 2)
PACKED = np.dtype([("bin", "<u2"), ("documents", "<u4")])
"""Of a task there are fewer documents than 2^32; its mark is read sooner than numbers in JSON are."""

Array = np.ndarray[Any, np.dtype[np.int64]]


class LengthCounts:
    """Documents by bin. Bin b holds length b below 1,024; above, the 512 bins of an octave follow the one before."""

    def __init__(self) -> None:
        self.counts: Array = np.zeros(BINS, np.int64)

    def add(self, lengths: Array) -> None:
        """Counts documents. lengths (documents,), at least 1."""
        _, exponents = np.frexp(lengths.astype(np.float64))  # exact below 2^53
        dropped = np.maximum(exponents - DIGITS, 0).astype(np.int64)
        np.add.at(self.counts, dropped * HALF + (lengths >> dropped), 1)

    def bins(self) -> list[list[int]]:
        """[numbers of the bins that are not empty, documents in each], as plain values."""
        filled = np.flatnonzero(self.counts)
        return [filled.tolist(), self.counts[filled].tolist()]

    def add_bins(self, bins: list[list[int]]) -> None:
        """Adds what another one's `bins` has given."""
        numbers, counts = (np.array(values, np.int64) for values in bins)
        self.counts[numbers] += counts

    def packed(self) -> str:
        """The bins that are not empty as rows of PACKED, in base 64."""
        filled = np.flatnonzero(self.counts)
        rows = np.empty(len(filled), PACKED)
        rows["bin"], rows["documents"] = filled, self.counts[filled]
        return b64encode(rows.tobytes()).decode()

    def add_packed(self, packed: str) -> None:
        """Adds what another one's `packed` has given."""
        rows = np.frombuffer(b64decode(packed), PACKED)
        self.counts[rows["bin"]] += rows["documents"]

    def by_length(self) -> Counter[int]:
        """Documents by the least length of their bin."""
        filled, counts = self.bins()
        dropped = [max(number // HALF - 1, 0) for number in filled]
        lengths = [(number - shift * HALF) << shift for number, shift in zip(filled, dropped, strict=True)]
        return Counter(dict(zip(lengths, counts, strict=True)))
