"""What the templates of all probes share: a choice from many sentences that is the same on every machine."""

import hashlib
from collections.abc import Iterable

PAIRS = 100
"""Pairs of a phenomenon."""

Sentences = tuple[str, str]
"""Good, bad."""


def choose(candidates: Iterable[Sentences], count: int) -> list[Sentences]:
    """`count` of the distinct candidates, by the order of their digests: spread over all words of a template."""
    distinct = sorted(set(candidates), key=lambda pair: hashlib.sha256("\n".join(pair).encode()).digest())
    if len(distinct) < count:
        raise ValueError(f"a template gives {len(distinct)} pairs, fewer than {count}")
    return distinct[:count]


def halves(first: Iterable[Sentences], second: Iterable[Sentences]) -> list[Sentences]:
    """PAIRS pairs, half of each kind: a network that always prefers one form is at chance."""
    return choose(first, PAIRS // 2) + choose(second, PAIRS - PAIRS // 2)


def sentence(*words: str) -> str:
    """Words joined, the first letter a capital, with a full stop."""
    text = " ".join(words)
    return text[0].upper() + text[1:] + "."
