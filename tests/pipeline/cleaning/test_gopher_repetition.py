"""Gopher's repetition rules, against a brute-force reading of the paper; each threshold at, under and over."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.cleaning_sections import GopherRepetitionConfig
from pipeline.cleaning.gopher_repetition import GopherRepetition
from pipeline.cleaning.parts import Parts
from pipeline.cleaning.run_loops import first_runs, longer_runs

NOTHING = {
    "max_duplicate_lines": 1,
    "max_duplicate_line_characters": 1,
    "max_duplicate_paragraphs": 1,
    "max_duplicate_paragraph_characters": 1,
    "max_top_ngram": (1, 1, 1),
    "max_duplicate_ngrams": (1, 1, 1, 1, 1, 1),
}
REPETITIVE = st.lists(st.sampled_from(["a", "bb", "ccc", "d", "eeee"]), min_size=1, max_size=60)


def fault(text: str, **keys: Any) -> str:
    return GopherRepetition(GopherRepetitionConfig(**keys)).fault(Parts(text))


def alone(text: str, **keys: Any) -> str:
    """With only the given limits."""
    return fault(text, **(NOTHING | keys))


def share(words: list[str], n: int, wanted: set[tuple[str, ...]]) -> float:
    """Of the characters, those in one of the wanted runs of n words."""
    inside = {
        place
        for start in range(len(words) - n + 1)
        if tuple(words[start : start + n]) in wanted
        for place in range(start, start + n)
    }
    return sum(len(words[place]) for place in inside) / sum(map(len, words))


def commonest(words: list[str], n: int) -> list[tuple[str, ...]]:
    """The runs that occur most often, twice at least; of several such those with the most characters."""
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    most = max(counts.values(), default=0)
    candidates = [run for run, count in counts.items() if count == most > 1]
    longest = max((sum(map(len, run)) for run in candidates), default=0)
    return [run for run in candidates if sum(map(len, run)) == longest]


def reference(words: list[str]) -> dict[int, float]:
    """n to the share that the rule for n looks at."""
    shares = {}
    for n in range(2, 11):
        counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
        if n >= 5:
            shares[n] = share(words, n, {run for run, count in counts.items() if count > 1})
        else:
            shares[n] = max((share(words, n, {run}) for run in commonest(words, n)), default=0.0)
    return shares


def limits(n: int, limit: float) -> dict[str, Any]:
    key, first, length = ("max_top_ngram", 2, 3) if n < 5 else ("max_duplicate_ngrams", 5, 6)
    return {key: tuple(limit if first + place == n else 1 for place in range(length))}


@given(REPETITIVE, st.integers(5, 10))
def test_duplicate_ngrams_against_brute_force(words: list[str], n: int) -> None:
    expected = reference(words)[n]
    assert alone(" ".join(words), **limits(n, expected)) == ""
    if expected:
        assert alone(" ".join(words), **limits(n, expected - 1e-9)).startswith(f"duplicate {n}-grams: ")


@given(REPETITIVE, st.integers(2, 4))
def test_top_ngrams_against_brute_force(words: list[str], n: int) -> None:
    found = {share(words, n, {run}) for run in commonest(words, n)}
    text = " ".join(words)
    assert alone(text, **limits(n, max(found, default=0))) == ""
    if found and min(found):
        reason = alone(text, **limits(n, min(found) - 1e-9))
        assert reason in {f"one {n}-gram too often: {each:.3g} of the characters" for each in found}


@given(REPETITIVE)
def test_all_rules_together_against_brute_force(words: list[str]) -> None:
    table = {2: 0.20, 3: 0.18, 4: 0.16, 5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    shares = reference(words)
    over = [n for n, limit in table.items() if shares[n] > limit]
    reason = fault(" ".join(words))
    kind = f"{'one' if over and over[0] < 5 else 'duplicate'} {over[0]}-gram" if over else ""
    assert reason.startswith(kind)
    assert bool(reason) == bool(over)


@given(REPETITIVE, st.integers(5, 10))
def test_repeats_alone_against_brute_force(words: list[str], n: int) -> None:
    """As datatrove reads it, what is covered by runs that were there before."""
    seen: set[tuple[str, ...]] = set()
    inside: set[int] = set()
    for start in range(len(words) - n + 1):
        run = tuple(words[start : start + n])
        inside |= set(range(start, start + n)) if run in seen else set()
        seen.add(run)
    expected = sum(len(words[place]) for place in inside) / sum(map(len, words))
    text = " ".join(words)
    assert alone(text, count_first=False, **limits(n, expected)) == ""
    if expected:
        reason = alone(text, count_first=False, **limits(n, expected - 1e-9))
        assert reason == f"duplicate {n}-grams: {expected:.3g} of the characters"


@given(REPETITIVE, st.integers(1, 6), st.integers(1, 3))
def test_groups_of_runs(words: list[str], n: int, step: int) -> None:
    """Equal where runs that occur more than once are, whether found at once or made of shorter ones."""
    found = Parts(" ".join(words)).words
    longer = first_runs(found.ids, found.counts, n)
    sizes = [n]
    if step <= n:
        longer = longer_runs(longer, step)
        sizes = [n + step]
    runs = {start: tuple(words[start : start + sizes[0]]) for start in range(len(words) - sizes[0] + 1)}
    several = [start for start, run in runs.items() if list(runs.values()).count(run) > 1]
    assert np.flatnonzero(longer >= 0).tolist() == several
    pairs = {(runs[start], int(longer[start])) for start in several}
    assert len(pairs) == len({run for run, _ in pairs}) == len({group for _, group in pairs})


def different(count: int, length: int = 5) -> list[str]:
    return [f"{place:0{length}d}" for place in range(count)]


@pytest.mark.parametrize(
    ("n", "limit"),
    [(2, 0.2), (3, 0.18), (4, 0.16), (5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)],
)
def test_the_table_of_the_paper(n: int, limit: float) -> None:
    run = [chr(97 + place) * 5 for place in range(n)]
    times = 10
    inside = n * times
    for total, dropped in ((round(inside / limit) + 1, False), (round(inside / limit) - 1, True)):
        rest = different(total - inside)
        words = [word for start in range(times) for word in [*run, rest[start]]] + rest[times:]
        reason = fault(" ".join(words), **(NOTHING | limits(n, limit)))
        assert bool(reason) == dropped, reason


def test_exactly_the_limit_is_kept() -> None:
    run, rest = ["aaaaa", "bbbbb"], different(40)
    words = [word for place in range(5) for word in [*run, rest[place]]] + rest[5:]
    assert len(words) == 50
    assert alone(" ".join(words), max_top_ngram=(0.2, 1, 1)) == ""
    assert alone(" ".join(words[:-1]), max_top_ngram=(0.2, 1, 1)) == "one 2-gram too often: 0.204 of the characters"


def test_duplicate_lines() -> None:
    lines = [f"line {place}" for place in range(7)] + ["line 0"] * 3
    assert alone("\n".join(lines), max_duplicate_lines=0.3) == ""
    assert alone("\n".join([*lines, "line 0"]), max_duplicate_lines=0.3) == "duplicate lines: 0.364"


def test_characters_in_duplicate_lines() -> None:
    lines = ["aaaaa", "b" * 15, "aaaaa"]
    assert alone("\n".join(lines), max_duplicate_line_characters=0.2) == ""
    lines[1] = "b" * 14
    assert alone("\n".join(lines), max_duplicate_line_characters=0.2) == "characters in duplicate lines: 0.208"


def test_duplicate_paragraphs() -> None:
    paragraphs = [f"first {place}\nsecond {place}" for place in range(7)] + ["first 0\nsecond 0"] * 3
    limit = {"max_duplicate_paragraphs": 0.3}
    assert alone("\n\n".join(paragraphs), **limit) == ""
    assert alone("\n \n".join([*paragraphs, paragraphs[0]]), **limit) == "duplicate paragraphs: 0.364"


def test_characters_in_duplicate_paragraphs() -> None:
    paragraphs = ["aa\na", "b" * 12, "aa\na"]
    limit = {"max_duplicate_paragraph_characters": 0.2}
    assert alone("\n\n".join(paragraphs), **limit) == ""
    paragraphs[1] = "b" * 11
    assert alone("\n\n".join(paragraphs), **limit) == "characters in duplicate paragraphs: 0.211"


@pytest.mark.parametrize("text", ["", " ", "one", "one two", "one one", "a b c d e f g h i j k"])
def test_short_texts(text: str) -> None:
    assert alone(text) == ""


def test_chinese_runs_count_two_letters_a_word() -> None:
    start = 0x4E00
    letters = [chr(start + place) for place in range(1000)]
    run, rest = "".join(letters[:10]), letters[10:]
    for total, dropped in ((1340, False), (1320, True)):  # 0.15 of the letters, more or less
        text = "".join(run + rest[place] for place in range(20)) + "".join(chr(0x6000 + i) for i in range(total - 220))
        reason = alone(text, max_duplicate_ngrams=(0.15, 1, 1, 1, 1, 1))
        assert bool(reason) == dropped, reason
    nine = "".join(run[:9] + rest[place] for place in range(90))
    assert alone(nine, max_duplicate_ngrams=(0.15, 1, 1, 1, 1, 1)) == ""
