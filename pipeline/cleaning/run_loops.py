"""Compiled loops over a text's numbered words: runs of n words that occur more than once, and what they cover.

Each place of the text has the number of the group of equal runs whose one begins there, or -1. Runs are put together
from shorter ones: where a and b are the groups at a place and some words later, (a, b) stands for the longer run. Runs
and pairs are compared as they are, so nothing depends on hashes being different. Price: 250 MB/s in Chinese,
500 in English; 16 to 28 bytes a word.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.compiled import compiled

Array = NDArray[Any]

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HIGH = np.uint64(32)
NO_FAULT, TOP, DUPLICATE = range(3)


@compiled
def _table_for(entries: int) -> tuple[Any, ...]:
    """An empty table, a third of which at least stays free, and how far a hash is shifted for a place in it."""
    size = 4
    while 2 << size < 3 * entries:
        size += 1
    return np.zeros(1 << size, np.int32), np.uint64(64 - size)


@compiled
def first_runs(ids: Array, counts: Array, n: int) -> Array:
    """(words,): the groups of the runs of n words that occur more than once, -1 elsewhere. No word of such a run
    occurs once only."""
    words = len(ids)
    candidates, several = 0, 0
    for place in range(words):
        several = several + 1 if counts[ids[place]] > 1 else 0
        candidates += several >= n
    groups = _no_groups(words)
    if candidates < 2:
        return groups
    table, shift = _table_for(candidates)
    sizes = np.empty(candidates, np.int32)
    power = np.uint64(1)
    for _ in range(n):
        power *= _SPREAD
    value, several, known = np.uint64(0), 0, 0
    for place in range(words):
        if counts[ids[place]] == 1:
            value, several = np.uint64(0), 0
            continue
        several += 1
        value = value * _SPREAD + np.uint64(ids[place] + 1)
        if several > n:
            value -= power * np.uint64(ids[place - n] + 1)
        if several < n:
            continue
        start = place - n + 1
        slot = np.int64(((value ^ (value >> _HIGH)) * _SPREAD) >> shift)
        while table[slot] and not _same(ids, table[slot] - 1, start, n):
            slot = (slot + 1) & (len(table) - 1)
        if not table[slot]:
            table[slot] = start + 1
            groups[start] = known
            sizes[known] = 0
            known += 1
        else:
            groups[start] = groups[table[slot] - 1]
        sizes[groups[start]] += 1
    _drop_single(groups, sizes)
    return groups


@compiled
def _no_groups(words: int) -> Array:
    groups = np.empty(words, np.int32)
    for place in range(words):
        groups[place] = -1
    return groups


@compiled
def _same(ids: Array, one: int, other: int, n: int) -> bool:
    step = 0
    while step < n and ids[one + step] == ids[other + step]:
        step += 1
    return step == n


@compiled
def _drop_single(groups: Array, sizes: Array) -> None:
    """Takes out the groups of one run."""
    for place in range(len(groups)):
        if groups[place] >= 0 and sizes[groups[place]] == 1:
            groups[place] = -1


@compiled
def longer_runs(shorter: Array, step: int) -> Array:
    """(words,): the groups of the runs longer by so many words; at most as many as the shorter ones have."""
    words = len(shorter)
    candidates = 0
    for place in range(words - step):
        candidates += shorter[place] >= 0 and shorter[place + step] >= 0
    groups = _no_groups(words)
    if candidates < 2:
        return groups
    table, shift = _table_for(candidates)
    sizes = np.empty(candidates, np.int32)
    known = 0
    for place in range(words - step):
        first, second = shorter[place], shorter[place + step]
        if first < 0 or second < 0:
            continue
        value = ((np.uint64(first) << _HIGH) | np.uint64(second)) * _SPREAD
        slot = np.int64(((value ^ (value >> _HIGH)) * _SPREAD) >> shift)
        while table[slot]:
            other = table[slot] - 1
            if shorter[other] == first and shorter[other + step] == second:
                break
            slot = (slot + 1) & (len(table) - 1)
        if not table[slot]:
            table[slot] = place + 1
            groups[place] = known
            sizes[known] = 0
            known += 1
        else:
            groups[place] = groups[table[slot] - 1]
        sizes[groups[place]] += 1
    _drop_single(groups, sizes)
    return groups


@compiled
def covered(groups: Array, ids: Array, lengths: Array, n: int, only: int) -> np.int64:
    """Characters of the words in some run of n words of a group, or of one group alone where only is not -1."""
    characters, reach = np.int64(0), 0
    for place in range(len(ids)):
        if groups[place] >= 0 and (only < 0 or groups[place] == only):
            reach = place + n
        if place < reach:
            characters += np.int64(lengths[ids[place]])
    return characters


@compiled
def covered_by_repeats(groups: Array, ids: Array, lengths: Array, n: int) -> np.int64:
    """Characters of the words in some run of n words that was there before."""
    seen = np.zeros(len(ids), np.bool_)  # more than there are groups
    characters, reach = np.int64(0), 0
    for place in range(len(ids)):
        group = groups[place]
        if group >= 0:
            if seen[group]:
                reach = place + n
            seen[group] = True
        if place < reach:
            characters += np.int64(lengths[ids[place]])
    return characters


@compiled
def commonest(groups: Array, ids: Array, lengths: Array, n: int) -> int:
    """The group of the run that occurs most often; of several such, of the one with the most characters; of several
    such, of the one whose words' numbers come first."""
    sizes = np.zeros(len(ids), np.int32)  # more than there are groups
    most = 0
    for place in range(len(groups)):
        if groups[place] >= 0:
            sizes[groups[place]] += 1
            most = max(most, sizes[groups[place]])
    best, best_characters = -1, np.int64(0)
    for place in range(len(groups)):
        if groups[place] < 0 or sizes[groups[place]] < most:
            continue
        sizes[groups[place]] = 0  # asked once
        characters = np.int64(0)
        for step in range(n):
            characters += np.int64(lengths[ids[place + step]])
        if best < 0 or characters > best_characters or (characters == best_characters and _before(ids, place, best, n)):
            best, best_characters = place, characters
    return groups[best]


@compiled
def _before(ids: Array, one: int, other: int, n: int) -> bool:
    step = 0
    while step < n - 1 and ids[one + step] == ids[other + step]:
        step += 1
    return ids[one + step] < ids[other + step]


@compiled
def _first_asked(counts: Array, lengths: Array, factor: int, total: np.int64, top: Array) -> int:
    """The first n whose rule can object. A run of n words covers no more than all occurrences of its words, so none of
    2 to 4 can cover too much where the n words that cover most do not."""
    largest = np.zeros(len(top) * factor + factor, np.int64)  # characters, ascending
    for word in range(len(counts)):
        of_all = np.int64(counts[word]) * np.int64(lengths[word])
        if counts[word] > 1 and of_all > largest[0]:
            place = 0
            while place + 1 < len(largest) and largest[place + 1] < of_all:
                largest[place] = largest[place + 1]
                place += 1
            largest[place] = of_all
    for n in range(2, 2 + len(top)):
        characters = 0
        for place in range(len(largest) - n * factor, len(largest)):
            characters += largest[place]
        if characters / total > top[n - 2]:
            return n
    return 2 + len(top)


@compiled
def ngram_fault(
    ids: Array, counts: Array, lengths: Array, factor: int, limits: tuple[Any, ...], count_first: bool
) -> tuple[int, int, float]:
    """(rule, n, share): the first of Gopher's rules for n-grams that objects, n times factor words being an n-gram.

    limits: of the commonest n-gram for n = 2, 3, 4; of those that occur twice for n = 5 to 10; the least limit of
    n-grams that long or longer, for n = 2 to 10.
    """
    top, duplicate, least = limits
    total = np.int64(0)
    for word in range(len(counts)):
        total += np.int64(counts[word]) * np.int64(lengths[word])
    if not total:
        return NO_FAULT, 0, 0.0
    n = _first_asked(counts, lengths, factor, total, top)
    groups = first_runs(ids, counts, n * factor)
    while True:
        size = n * factor
        share = covered(groups, ids, lengths, size, -1) / total
        if not share or share <= least[n - 2]:
            return NO_FAULT, n, 0.0  # longer runs that occur twice lie within these
        if n < 2 + len(top):
            if top[n - 2] < share:
                of_one = covered(groups, ids, lengths, size, commonest(groups, ids, lengths, size)) / total
                if of_one > top[n - 2]:
                    return TOP, n, of_one
        else:
            if not count_first:
                share = covered_by_repeats(groups, ids, lengths, size) / total
            if share > duplicate[n - 2 - len(top)]:
                return DUPLICATE, n, share
        n += 1
        if n - 2 == len(least):
            return NO_FAULT, n, 0.0
        groups = longer_runs(groups, factor)
