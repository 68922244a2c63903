"""Compiled loops over a text's lines: how they begin and end, and which lines and paragraphs repeat an earlier one.

Lines are numbered by a hash table with open addressing in which the characters themselves are compared, so equal
numbers are equal lines, and paragraphs are compared by their lines' numbers. Price: 600 MB/s.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.compiled import compiled
from pipeline.cleaning.characters import IS_SPACE, IS_TERMINAL

Array = NDArray[Any]

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HIGH = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_FIRST_SIZE = 6
"""Binary logarithm of the places that a table begins with."""
_NEW_LINE, _FULL_STOP, _ELLIPSIS = 0x0A, 0x2E, 0x2026
_BULLETS = tuple(map(ord, "•‣◦▪●■-*·"))
"""Gopher's paper names no characters."""


@compiled
def _hash(values: Array, start: int, end: int) -> np.uint64:
    """Of the values from start to end, 32 bits; in two chains, since each step waits for the one before."""
    even, odd = np.uint64(end - start), _SPREAD
    for place in range(start, end - 1, 2):
        even = (even ^ np.uint64(values[place])) * _SPREAD
        odd = (odd ^ np.uint64(values[place + 1])) * _SPREAD
    if (end - start) & 1:
        even = (even ^ np.uint64(values[end - 1])) * _SPREAD
    value = even ^ (odd >> _HIGH) ^ (odd << _HIGH)
    return ((value ^ (value >> _HIGH)) * _SPREAD) >> _HIGH


@compiled
def _number(values: Array, start: Any, end: Any, known: tuple[Any, ...]) -> Any:
    """The number of what stands there among what is known: (table, starts, lengths). Where it is new, the next one's,
    and it is entered. The lists have room for one more."""
    table, starts, lengths, count = known
    key = _hash(values, start, end)
    mask = len(table) - 1
    slot = np.int64(key) & mask
    while table[slot]:
        if table[slot] >> _HIGH == key:
            number = np.int64(table[slot] & _LOW) - 1
            if lengths[number] == end - start:
                other, step = starts[number], 0
                while step < end - start and values[other + step] == values[start + step]:
                    step += 1
                if step == end - start:
                    return number
        slot = (slot + 1) & mask
    table[slot] = (key << _HIGH) | np.uint64(count + 1)
    starts[count], lengths[count] = start, end - start
    return count


@compiled
def _with_room(known: tuple[Any, ...], count: Any) -> tuple[Any, ...]:
    """The same, with room for another."""
    table, starts, lengths, _ = known
    if count < len(starts):
        return table, starts, lengths, count
    larger = np.zeros(2 * len(table), np.uint64)
    for entry in table:
        if entry:
            slot = np.int64(entry >> _HIGH) & (len(larger) - 1)
            while larger[slot]:
                slot = (slot + 1) & (len(larger) - 1)
            larger[slot] = entry
    longer_starts, longer_lengths = np.empty(2 * count, np.int64), np.empty(2 * count, np.int64)
    for number in range(count):
        longer_starts[number], longer_lengths[number] = starts[number], lengths[number]
    return larger, longer_starts, longer_lengths, count


@compiled
def _nothing_known() -> tuple[Any, ...]:
    room = 1 << (_FIRST_SIZE - 1)
    return np.zeros(1 << _FIRST_SIZE, np.uint64), np.empty(room, np.int64), np.empty(room, np.int64), np.int64(0)


@compiled
def _is_bullet(point: int) -> bool:
    which = 0
    while which < len(_BULLETS) and _BULLETS[which] != point:
        which += 1
    return which < len(_BULLETS)


@compiled
def _ends_in_ellipsis(points: Array, start: Any, end: Any) -> bool:
    if points[end - 1] == _ELLIPSIS:
        return True
    stops = 0
    while stops < 3 and stops < end - start and points[end - 1 - stops] == _FULL_STOP:
        stops += 1
    return stops == 3


@compiled
def take_lines(points: Array, classes: Array) -> tuple[Any, ...]:
    """The lines' lengths (lines,); how many begin with a bullet, end a sentence, end in an ellipsis; and
    (lines, different ones, characters, those of the different ones) of lines and of paragraphs."""
    size, place, count = len(points), 0, 0
    different, total, unique = np.int64(0), np.int64(0), np.int64(0)
    lengths, ids = np.empty(size // 2 + 1, np.int32), np.empty(size // 2 + 1, np.int32)
    breaks = np.empty(size // 2 + 2, np.int32)  # where paragraphs begin, counted in lines
    bullets, terminal, ellipses, paragraphs = 0, 0, 0, 0
    blank = True
    known = _nothing_known()
    while place < size:
        start = place
        while place < size and points[place] != _NEW_LINE:
            place += 1
        end = place
        place += 1
        while start < end and classes[points[start]] & IS_SPACE:
            start += 1
        while end > start and classes[points[end - 1]] & IS_SPACE:
            end -= 1
        if start == end:
            blank = True
            continue
        if blank:
            breaks[paragraphs] = count
            paragraphs += 1
            blank = False
        known = _with_room(known, different)
        number = _number(points, start, end, known)
        lengths[count], ids[count] = end - start, number
        count += 1
        total += end - start
        if number == different:
            different += 1
            unique += end - start
        bullets += _is_bullet(points[start])
        terminal += classes[points[end - 1]] & IS_TERMINAL != 0
        ellipses += _ends_in_ellipsis(points, start, end)
    breaks[paragraphs] = count
    of_lines = (count, different, total, unique)
    if paragraphs == count:
        return lengths[:count], (bullets, terminal, ellipses), of_lines, of_lines
    return lengths[:count], (bullets, terminal, ellipses), of_lines, _paragraphs(lengths, ids, breaks[: paragraphs + 1])


@compiled
def _paragraphs(lengths: Array, ids: Array, breaks: Array) -> tuple[Any, ...]:
    """How many there are, different ones, characters, those of the different ones; line breaks count in them."""
    different, total, unique = np.int64(0), np.int64(0), np.int64(0)
    known = _nothing_known()
    for paragraph in range(len(breaks) - 1):
        first, behind = np.int64(breaks[paragraph]), np.int64(breaks[paragraph + 1])
        characters = behind - first - 1
        for line in range(first, behind):
            characters += lengths[line]
        known = _with_room(known, different)
        total += characters
        if _number(ids, first, behind, known) == different:
            different += 1
            unique += characters
    return len(breaks) - 1, different, total, unique
