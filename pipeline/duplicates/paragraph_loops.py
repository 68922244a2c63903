"""The loop over texts' UTF-8 that finds their long paragraphs (pipeline.duplicates.paragraphs says what they are).

Imported late, as pipeline.base.compiled says. Price: 1 s to compile at its first use on a machine.
"""

from typing import Any

import numpy as np

from pipeline.base.compiled import compiled
from pipeline.duplicates.utf8 import decoded, decoded_before

LINE_END = 10


@compiled
def long_paragraphs(data: Any, starts: Any, least: Any, weights: Any, found: Any) -> Any:
    """Writes (text, number of the paragraph, its characters, first byte, byte after its last) rows; how many.

    data: the texts' UTF-8, one after another; starts (texts + 1,): where each begins in it. weights: what each code
    point counts for; together they must be `least` or more. found: room for a row in each `least` bytes.
    """
    count = 0
    for text in range(len(starts) - 1):
        first, stop = starts[text], starts[text + 1]
        before, blank = count, False
        piece, number, start = first, 0, first  # where the paragraph and the line begin
        while start <= stop:
            end = start
            while end < stop and data[np.uint64(end)] != LINE_END:
                end += 1
            between = start > first and end < stop
            if between and _after_space(data, start, end) == end:
                if not blank:  # what was taken for paragraphs was lines, if there was a blank one among them
                    blank, count, number, piece = True, before, 0, first
                if piece >= 0:
                    count = _add(data, (text, number), piece, start - 1, least, weights, found, count)
                    number, piece = number + 1, -1
            elif not blank:
                count = _add(data, (text, number), start, end, least, weights, found, count)
                number += 1
            elif piece < 0:
                piece = start
            start = end + 1
        if blank:
            count = _add(data, (text, number), piece, stop, least, weights, found, count)
    return count


@compiled
def _add(data: Any, place: Any, start: Any, end: Any, least: Any, weights: Any, found: Any, count: Any) -> Any:
    """Writes the row of a paragraph, if it is long without the white space around it. Returns how many rows there are.

    place: text, number. No character weighs more than it has bytes.
    """
    if end - start < least:
        return count
    start = _after_space(data, start, end)
    while end > start:
        point, before = decoded_before(data, np.uint64(end))
        if not _is_space(point):
            break
        end = int(before)
    if end - start < least:
        return count
    characters = 0
    for byte in range(start, end):
        characters += int((data[np.uint64(byte)] & 0xC0) != 0x80)
    weight, at = characters, np.uint64(start)
    if characters < least:
        weight = 0
        while at < end:
            point, at = decoded(data, at)
            weight += int(weights[point]) if point < len(weights) else 1
    if weight >= least:
        row = found[count]
        row[0], row[1], row[2], row[3], row[4] = place[0], place[1], characters, start, end
        count += 1
    return count


@compiled
def _after_space(data: Any, start: Any, end: Any) -> Any:
    """The first place from `start` on that is no white space, or `end`."""
    at = np.uint64(start)
    while at < end:
        point, following = decoded(data, at)
        if not _is_space(point):
            break
        at = following
    return int(at)


@compiled
def _is_space(point: Any) -> Any:
    """As str.isspace."""
    if point < 0x85:
        return point == 0x20 or 9 <= point <= 13 or 28 <= point <= 31
    if point < 0x2000:
        return point == 0x85 or point == 0xA0 or point == 0x1680
    return point <= 0x200A or point in (0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
