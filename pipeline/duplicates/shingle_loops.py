"""The loop over texts' UTF-8 that cuts them into shingles (pipeline.duplicates.shingles says what they are), compiled.

Imported late, as pipeline.base.compiled says. Price: 3 s to compile at its first use on a machine.
"""

from typing import Any

import numpy as np

from pipeline.base.compiled import compiled
from pipeline.duplicates.utf8 import decoded

MARK, KIND = np.uint8(2), np.uint8(7)
NOTHING, ONE, LAST_POWER, LONGEST_TOKEN = np.uint64(0), np.uint64(1), np.uint64(63), np.uint64(1 << 16)
"""A longer run of letters is cut."""
TERMS = 5


@compiled
def cut_texts(
    data: Any, starts: Any, kind_of: Any, hash_of: Any, sizes: Any, powers: Any, room: Any, offsets: Any
) -> Any:
    """Writes all shingles into room[0], where each text's end into `offsets`; returns which texts may not be composed.

    data: the texts' UTF-8, one after another; starts (texts + 1,): where each begins in it. kind_of, hash_of: of each
    code point. sizes: tokens a shingle, by kind. powers: that weigh the places in a word and in a shingle. room: for
    shingles, and for tokens' hashes and sizes, which are written over.
    """
    shingles, tokens, lengths = room
    texts, found = len(starts) - 1, 0
    may_compose = np.zeros(texts, np.bool_)
    for text in range(texts):
        count, kinds = _tokens(data, starts[text], starts[text + 1], kind_of, hash_of, powers[0], sizes, room)
        found = _shingles(tokens, lengths, count, shingles, found, powers[1])
        offsets[text + 1], may_compose[text] = found, kinds > KIND
    return may_compose


@compiled
def _tokens(data: Any, first: Any, stop: Any, kind_of: Any, hash_of: Any, powers: Any, sizes: Any, room: Any) -> Any:
    """Writes each token's hash and its size of shingle. Returns how many there are, and all kinds together.

    ASCII has no branch for where words begin and end, which no processor foresees.
    """
    _, tokens, lengths = room
    at, stop, count = np.uint64(first), np.uint64(stop), NOTHING
    total, place, seen = NOTHING, NOTHING, np.uint8(0)  # place: characters of the token so far, 0 where there is none
    size = word = sizes[1]
    alone: Any = np.bool_(False)  # whether the token's last letter stands for itself
    while at < stop:
        point = np.uint32(data[at])
        if point < 0x80 and not alone and place < LONGEST_TOKEN:
            at += ONE
            letter, inside = np.uint64(kind_of[point]), np.uint64(place > NOTHING)
            tokens[count], lengths[count] = total, size
            count += inside & (ONE - letter)
            total = (total & (NOTHING - inside)) + hash_of[point] * powers[place & LAST_POWER]
            size = size if inside else word
            place = (place + ONE) & (NOTHING - letter)
            continue
        point, at = decoded(data, at)
        kind = kind_of[point] if point < len(kind_of) else np.uint8(0)
        seen |= kind
        kind &= KIND
        if kind == 0 or kind > MARK or (alone and kind != MARK) or place in (NOTHING, LONGEST_TOKEN):
            tokens[count], lengths[count] = total, size
            count += np.uint64(place > NOTHING)
            total, place, size, alone = NOTHING, NOTHING, sizes[kind], kind > MARK
        if kind != 0:
            total += hash_of[point] * powers[place & LAST_POWER]
            place += ONE
    if place > NOTHING:
        tokens[count], lengths[count] = total, size
        count += ONE
    for number in range(int(count)):
        tokens[number] = _mixed(tokens[number])
    return int(count), seen


@compiled
def _shingles(tokens: Any, lengths: Any, count: Any, shingles: Any, found: Any, powers: Any) -> Any:
    """Writes the shingles of a text's tokens from `found` on; returns where they end."""
    first, start = found, 0
    while start < count:  # tokens with the same size of shingle together
        size, end = int(lengths[start]), start + 1
        while end < count and lengths[end] == size:
            end += 1
        some = min(end, count - size + 1) - start
        if some > 0:
            _polynomials(tokens[start : start + some + size + TERMS], size, powers, shingles[found : found + some])
            found += some
        start = end
    if found == first and count:
        total = NOTHING
        for place in range(count):
            total += tokens[place] * powers[place]
        shingles[found] = _mixed(total)
        found += 1
    return found


@compiled
def _polynomials(tokens: Any, size: Any, powers: Any, shingles: Any) -> Any:
    """Of `size` tokens from each place on; TERMS at a time, so that the processor does several places at once."""
    for place in range(len(shingles)):
        shingles[place] = NOTHING
    for term in range(0, size, TERMS):
        one, two = powers[term], powers[term + 1] if term + 1 < size else NOTHING
        three = powers[term + 2] if term + 2 < size else NOTHING
        four, five = powers[term + 3] if term + 3 < size else NOTHING, powers[term + 4] if term + 4 < size else NOTHING
        some = tokens[term : term + len(shingles) + TERMS]
        for place in range(len(shingles)):
            total = some[place] * one + some[place + 1] * two + some[place + 2] * three
            shingles[place] += total + some[place + 3] * four + some[place + 4] * five
    for place in range(len(shingles)):
        shingles[place] = _mixed(shingles[place])


@compiled
def _mixed(value: Any) -> Any:
    """As pipeline.duplicates.shingles.mixed."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
