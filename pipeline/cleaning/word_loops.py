"""Compiled loops over a text's code points: kinds of characters, words and their numbers, look-ups in lists of words.

A word is what pipeline/cleaning/words.py says. Words are numbered as they come, by a hash table with open addressing;
equal hashes are not enough, the characters are compared. Price: words 170 to
190 MB/s, kinds over 1,000 MB/s.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.compiled import compiled
from pipeline.cleaning.characters import ASK, IS_LETTER, IS_SPACE, IS_UNSPACED, IS_WORD, KIND, PLAIN

Array = NDArray[Any]

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HIGH = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_LEAST_ROOM, _MOST_ROOM_AT_FIRST, _CHARACTERS_A_PLACE = 1 << 7, 1 << 16, 4
"""Places of a table at first, so that few texts need a larger one."""


@compiled
def count_kinds(points: Array, classes: Array) -> Array:
    """(8,): characters of each kind. In four rows, so that no count waits for the one before."""
    counts = np.zeros((4, KIND + 1), np.int64)
    together = len(points) & ~3
    for place in range(0, together, 4):
        counts[0, classes[points[place]] & KIND] += 1
        counts[1, classes[points[place + 1]] & KIND] += 1
        counts[2, classes[points[place + 2]] & KIND] += 1
        counts[3, classes[points[place + 3]] & KIND] += 1
    for place in range(together, len(points)):
        counts[0, classes[points[place]] & KIND] += 1
    for row in range(1, 4):
        for kind in range(6):
            counts[0, kind] += counts[row, kind]
    return counts[0]


@compiled
def count_chosen(points: Array, chosen: Array) -> np.int64:
    """How many of the characters are among the chosen."""
    count = np.int64(0)
    for place in range(len(points)):
        count += np.int64(chosen[points[place]])
    return count


@compiled
def _hash(points: Array, start: int, end: int) -> np.uint64:
    """Of the characters from start to end, 32 bits."""
    value = _SPREAD
    for place in range(start, end):
        value = (value ^ np.uint64(points[place])) * _SPREAD
    return ((value ^ (value >> _HIGH)) * _SPREAD) >> _HIGH


@compiled
def _same(points: Array, start: int, others: Array, other: int, length: Any) -> bool:
    """Whether so many characters are the same from both starts on."""
    step = 0
    while step < length and points[start + step] == others[other + step]:
        step += 1
    return step == length


@compiled
def _end_of_marks(points: Array, classes: Array, place: int) -> int:
    """Where the first character from there on is that is white space or goes on a word."""
    while place < len(points) and classes[points[place]] & (IS_SPACE | IS_WORD) == 0:
        place += 1
    return place


@compiled
def _grown(known: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """The words known so far, (table, starts, lengths, counts), with twice the room."""
    table, starts, lengths, counts = known
    larger = np.zeros(2 * len(table), np.uint64)
    mask = len(larger) - 1
    for entry in table:
        if entry:
            slot = np.int64(entry >> _HIGH) & mask
            while larger[slot]:
                slot = (slot + 1) & mask
            larger[slot] = entry
    room = len(table)
    places, sizes, times = np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room, np.int32)
    for number in range(count):
        places[number], sizes[number], times[number] = starts[number], lengths[number], counts[number]
    return larger, places, sizes, times


@compiled
def _number(points: Array, classes: Array, ids: Array, known: tuple[Any, ...], state: Array) -> None:
    """Numbers words until the text ends or there is no room for another different one. In a function of its own, as
    arrays that are replaced within the loop would be counted as references at every word."""
    table, starts, lengths, counts = known
    place, words, count, unspaced, behind_marks = state[0], state[1], state[2], state[3], state[4]
    size, mask, room = len(points), len(table) - 1, len(starts)
    while place < size and count < room:
        kind = classes[points[place]]
        if kind & IS_SPACE:
            place += 1
            continue
        start = letter = place
        if not kind & IS_WORD:  # behind signs and marks may be a letter of a script without spaces
            if behind_marks <= start:
                behind_marks = _end_of_marks(points, classes, start)
            letter = behind_marks
        key = _SPREAD
        if letter < size and classes[points[letter]] & IS_UNSPACED:
            place = _end_of_marks(points, classes, letter + 1)
            unspaced += 1
            for inner in range(start, place):
                key = (key ^ np.uint64(points[inner])) * _SPREAD
        else:
            while place < size and classes[points[place]] & (IS_SPACE | IS_UNSPACED) == 0:
                key = (key ^ np.uint64(points[place])) * _SPREAD
                place += 1
            if place == start:  # a code point that Unicode has not assigned, and that no word has
                place += 1
                continue
        key = ((key ^ (key >> _HIGH)) * _SPREAD) >> _HIGH
        length = place - start
        slot = np.int64(key) & mask
        number: Any = -1
        while table[slot]:
            if table[slot] >> _HIGH == key:
                found = np.int64(table[slot] & _LOW) - 1
                if lengths[found] == length and _same(points, starts[found], points, start, length):
                    number = found
                    break
            slot = (slot + 1) & mask
        if number < 0:
            number = count
            count += 1
            table[slot] = (key << _HIGH) | np.uint64(count)
            starts[number], lengths[number], counts[number] = start, length, 0
        ids[words] = number
        counts[number] += 1
        words += 1
    state[0], state[1], state[2], state[3], state[4] = place, words, count, unspaced, behind_marks


@compiled
def number_words(points: Array, classes: Array) -> tuple[Any, ...]:
    """The words' numbers (words,); of the different words as they come (vocabulary,): start, length, count; the words
    in scripts without spaces, those without a letter, and the characters of all.

    An entry of the table is a word's hash and, in its lower half, one more than its number; 0 is a free place.
    """
    most = len(points) // 2 + 1 if points.itemsize == 1 else len(points)
    ids = np.empty(most, np.int32)
    size = _LEAST_ROOM
    while size < _MOST_ROOM_AT_FIRST and size < len(points) // _CHARACTERS_A_PLACE:
        size *= 2
    room = size // 2
    known = (np.zeros(size, np.uint64), np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room, np.int32))
    state = np.zeros(5, np.int64)
    _number(points, classes, ids, known, state)
    while state[0] < len(points):
        known = _grown(known, state[2])
        _number(points, classes, ids, known, state)
    words, count, unspaced = state[1], state[2], state[3]
    _, starts, lengths, counts = known
    bare, characters = np.int64(0), np.int64(0)
    for number in range(count):
        bare += counts[number] * _is_bare(points, classes, starts[number], lengths[number])
        characters += np.int64(counts[number]) * np.int64(lengths[number])
    return ids[:words], starts[:count], lengths[:count], counts[:count], (unspaced, bare, characters)


@compiled
def _is_bare(points: Array, classes: Array, start: int, length: int) -> bool:
    """Whether no letter is there."""
    place = start
    while place < start + length and not classes[points[place]] & IS_LETTER:
        place += 1
    return place == start + length


@compiled
def enter_words(points: Array, starts: Array, lengths: Array) -> Array:
    """A table of those words, which are different, for count_folded."""
    size = _LEAST_ROOM
    while size < 2 * len(starts):
        size *= 2
    table = np.zeros(size, np.uint64)
    for number in range(len(starts)):
        key = _hash(points, starts[number], starts[number] + lengths[number])
        slot = np.int64(key) & (size - 1)
        while table[slot]:
            slot = (slot + 1) & (size - 1)
        table[slot] = (key << _HIGH) | np.uint64(number + 1)
    return table


@compiled
def _is_folded(
    points: Array, start: int, length: int, fold: Array, others: Array, places: Array, sizes: Array, table: Array
) -> bool:
    """Whether the word that stands there is in the list when its characters are folded."""
    key = _SPREAD
    for place in range(start, start + length):
        point = points[place]
        key = (key ^ np.uint64(fold[point] if point < PLAIN else point)) * _SPREAD
    key = ((key ^ (key >> _HIGH)) * _SPREAD) >> _HIGH
    slot = np.int64(key) & (len(table) - 1)
    while table[slot]:
        number = np.int64(table[slot] & _LOW) - 1
        if table[slot] >> _HIGH == key and sizes[number] == length:
            step, other = 0, places[number]
            while step < length:
                point = points[start + step]
                if (fold[point] if point < PLAIN else point) != others[other + step]:
                    break
                step += 1
            if step == length:
                return True
        slot = (slot + 1) & (len(table) - 1)
    return False


@compiled
def count_folded(
    points: Array, words: tuple[Any, ...], fold: Array, around: Array, listed: tuple[Any, ...]
) -> tuple[np.int64, Array]:
    """How many of the words (starts, lengths, counts) are in the list when their characters are folded, or folded and
    without what is around; and the numbers of the words about which Python must be asked."""
    starts, lengths, counts = words
    others, places, sizes, table = listed
    longest = 0
    for each in range(len(sizes)):
        longest = max(longest, sizes[each])
    asked, asking, found = np.empty(len(starts), np.int64), 0, np.int64(0)
    for word in range(len(starts)):
        start, end = starts[word], starts[word] + lengths[word]
        place = start
        while place < end and not (points[place] < PLAIN and fold[points[place]] == ASK):
            place += 1
        if place < end:
            asked[asking] = word
            asking += 1
            continue
        if end - start <= longest and _is_folded(points, start, end - start, fold, others, places, sizes, table):
            found += counts[word]
            continue
        while start < end and around[points[start]]:
            start += 1
        while end > start and around[points[end - 1]]:
            end -= 1
        if 0 < end - start <= longest and end - start < lengths[word]:
            found += counts[word] * _is_folded(points, start, end - start, fold, others, places, sizes, table)
    return found, asked[:asking]
