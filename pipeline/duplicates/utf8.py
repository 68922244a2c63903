"""Code points of UTF-8 in arrays of bytes, for compiled loops. Price: bytes that are no UTF-8 are not noticed."""

from typing import Any

import numpy as np

from pipeline.base.compiled import compiled

ONE, TWO, THREE, FOUR = (np.uint64(number) for number in (1, 2, 3, 4))
"""Of the type of a place, which must have no sign: Numba takes others to count from the end where they are negative."""


@compiled
def decoded(data: Any, at: Any) -> Any:
    """(the code point (uint32) that begins at the byte `at` (uint64), where the next one begins)."""
    lead = data[at]
    if lead < 0x80:
        return np.uint32(lead), at + ONE
    if lead < 0xE0:
        return np.uint32((lead & 0x1F) << 6 | _low(data, at + ONE)), at + TWO
    if lead < 0xF0:
        point = (lead & 0xF) << 12 | _low(data, at + ONE) << 6 | _low(data, at + TWO)
        return np.uint32(point), at + THREE
    upper = (lead & 7) << 18 | _low(data, at + ONE) << 12
    return np.uint32(upper | _low(data, at + TWO) << 6 | _low(data, at + THREE)), at + FOUR


@compiled
def decoded_before(data: Any, end: Any) -> Any:
    """(the code point (uint32) that ends before the byte `end` (uint64), where it begins)."""
    at = end - ONE
    while data[at] & 0xC0 == 0x80:
        at -= ONE
    return decoded(data, at)[0], at


@compiled
def _low(data: Any, at: Any) -> Any:
    return data[at] & 0x3F
