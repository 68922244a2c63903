"""What is found, against references that compare everything with everything; in many units and in one."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import pipeline.duplicates.bands as bands
import pipeline.duplicates.near as near
import pipeline.duplicates.plan as plan
from pipeline.duplicates.drops import read_drops
from pipeline.duplicates.find import find_duplicates
from pipeline.duplicates.paragraphs import apply_paragraphs
from pipeline.duplicates.signatures import Sketcher
from pipeline.duplicates.texts import encoded
from tests.pipeline.duplicates.copies import (
    Here,
    Killed,
    changed,
    config_of,
    corpus_with_copies,
    cut,
    drops_of,
    found_in,
    save_keys,
    words_of,
)
from tests.pipeline.duplicates.plain import long_paragraphs

ALL = {"documents": True, "near": True, "paragraphs": True}


@pytest.fixture(params=["one unit", "many units"])
def units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many units":
        small_units(monkeypatch)


def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "UNIT_DOCUMENTS", 16)
    monkeypatch.setattr(plan, "UNIT_PARAGRAPHS", 64)
    monkeypatch.setattr(plan, "BUCKET_KEYS", 100)
    monkeypatch.setattr(plan, "GROUP", 3)
    monkeypatch.setattr(bands, "MOST_PAIRS", 50)


def repeated_paragraphs(texts: list[str], least: int) -> set[tuple[int, int]]:
    seen, repeats = set(), set()
    for document, text in enumerate(texts):
        for number, paragraph in long_paragraphs(text, least):
            repeats |= {(document, number)} if paragraph in seen else set()
            seen.add(paragraph)
    return repeats


@pytest.mark.usefixtures("units")
def test_exact_documents_are_those_of_a_dictionary(tmp_path: Path) -> None:
    texts, _ = corpus_with_copies(1, 200)
    totals, dropped, _ = found_in(config_of(documents=True), cut(texts, [7, 0, 30, 1]), tmp_path)
    first = {text: texts.index(text) for text in texts}
    assert dropped == {number: "exact" for number, text in enumerate(texts) if first[text] != number}
    sizes = [texts.count(text) for text in first]
    assert totals.exact == len(dropped) > 20
    assert totals.exact_groups == sum(size > 1 for size in sizes)
    assert totals.exact_largest == max(sizes)


@pytest.mark.usefixtures("units")
def test_paragraphs_are_those_of_a_set(tmp_path: Path) -> None:
    texts, _ = corpus_with_copies(2, 200)
    texts[50] = f"{texts[3]}\n\nshort one\n\n{texts[3]}"  # repeats itself
    totals, dropped, cuts = found_in(config_of(paragraphs=True), cut(texts, [40, 3]), tmp_path)
    assert dropped == {}
    assert cuts == repeated_paragraphs(texts, 100)
    assert totals.paragraphs == len(cuts) > 50
    lengths = {
        (document, number): len(one) for document in range(200) for number, one in long_paragraphs(texts[document], 100)
    }
    assert totals.characters == sum(lengths[place] for place in cuts)


@pytest.mark.usefixtures("units")
def test_near_documents_are_the_planted_ones(tmp_path: Path) -> None:
    texts, copies = corpus_with_copies(3, 130)
    totals, dropped, _ = found_in(config_of(near={}), cut(texts, [25]), tmp_path)
    planted = {number for number, (kind, _) in copies.items() if kind in ("exact", "near")}
    assert set(dropped) == planted
    assert set(dropped.values()) == {"near"}
    assert totals.near == len(planted)


@pytest.mark.usefixtures("units")
def test_each_step_leaves_out_what_was_dropped_before(tmp_path: Path) -> None:
    texts, copies = corpus_with_copies(4, 120)
    _, dropped, cuts = found_in(config_of(**ALL), cut(texts, [25, 9]), tmp_path)
    assert {number: kind for number, (kind, _) in copies.items() if kind != "part"} == {
        number: kind for number, kind in dropped.items() if copies[number][0] != "part"
    }
    left = ["" if number in dropped else text for number, text in enumerate(texts)]
    assert cuts == repeated_paragraphs(left, 100)
    paragraphs = {one for text in texts for _, one in long_paragraphs(text, 100)}
    kept = [
        apply_paragraphs(text, [number for place, number in cuts if place == document])
        for document, text in enumerate(left)
    ]
    counts = [one for text in kept for _, one in long_paragraphs(text, 100)]
    assert len(counts) == len(set(counts))
    near = {number for number, kind in dropped.items() if kind == "near"}
    assert set(counts) == paragraphs - {one for number in near for _, one in long_paragraphs(texts[number], 100)} | {
        one for text in left for _, one in long_paragraphs(text, 100)
    }


def settled_by_all_pairs(similarity: np.ndarray, least: float) -> dict[int, int]:
    """What is dropped and for which document, with every pair of what is left compared."""
    left, dropped = list(range(len(similarity))), dict[int, int]()
    for _ in range(near.ROUNDS):
        first = {number: number for number in left}
        for _ in left:
            first = {one: min(first[other] for other in left if similarity[one, other] >= least) for one in left}
        dropped |= {one: kept for one, kept in first.items() if one != kept and similarity[one, kept] >= least / 2}
        left = [one for one in left if one not in dropped and one not in first.values()]
    for later in left:
        for earlier in left:
            if earlier < later and earlier not in dropped and similarity[later, earlier] >= least:
                dropped.setdefault(later, earlier)
    return dropped


def test_a_chain_is_settled_as_by_all_pairs(tmp_path: Path) -> None:
    """Each version changes the one before, so the ends of the chain have nothing in common."""
    chance, versions = random.Random(5), [words_of(random.Random(6), 150)]
    for _ in range(50):
        versions.append(changed(versions[-1], chance, 0.08))
    texts = [" ".join(words) for words in versions] + [" ".join(words_of(chance, 150)) for _ in range(40)]
    chance.shuffle(texts)
    config = config_of(near={"similarity": 0.35, "permutations": 256})
    totals, dropped, _ = found_in(config, cut(texts, [9]), tmp_path)
    assert config.near is not None
    signatures = Sketcher(config.near).sketch(encoded(texts))
    expected = settled_by_all_pairs((signatures[:, None] == signatures[None]).mean(2), 0.35)
    assert set(dropped) == set(expected)
    sizes = Counter(expected.values())
    assert len(sizes) > near.ROUNDS
    assert (totals.near_groups, totals.near_largest) == (len(sizes), max(sizes.values()) + 1)


@pytest.mark.usefixtures("units")
def test_no_text_falls_for_one_with_which_it_has_nothing_in_common(tmp_path: Path) -> None:
    chance = random.Random(10)
    one, other = words_of(chance, 300), words_of(chance, 300)
    texts = [" ".join(words) for words in (one, one + other, other)]
    assert found_in(config_of(near={}), [texts], tmp_path / "whole")[1] == {1: "near"}
    words = [f"w{chance.randrange(10**6)}" for _ in range(80 * 59 + 200)]
    windows = [words[80 * number : 80 * number + 200] for number in range(60)]
    _, dropped, _ = found_in(config_of(near={}), [[" ".join(some) for some in windows]], tmp_path / "windows")
    kept = {word for number, some in enumerate(windows) for word in some if number not in dropped}
    assert len(dropped) > 15
    assert kept >= set(words[:-80])  # the last window may go for the one before


def test_tasks_and_units_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, _ = corpus_with_copies(7, 50)
    results = []
    for number, sizes in enumerate([[50], [1], [30, 0, 0, 5]]):
        if number == 2:
            small_units(monkeypatch)
        totals, *found = found_in(config_of(**ALL), cut(texts, sizes), tmp_path / str(number))
        totals.examples = {}
        results.append((totals, *found))
    assert results[0] == results[1] == results[2]


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_units(monkeypatch)
    texts, _ = corpus_with_copies(8, 60)
    tasks, config = cut(texts, [11]), config_of(**ALL)
    folders = save_keys(config, tasks, tmp_path / "keys")
    unbroken = Here()
    expected = find_duplicates(config, folders, len(tasks), tmp_path / "whole", unbroken)  # type: ignore[arg-type]
    starts = 0
    while True:
        starts += 1
        here = Here(dies_after=starts)
        try:
            totals = find_duplicates(config, folders, len(tasks), tmp_path / "out", here)  # type: ignore[arg-type]
            break
        except Killed:
            continue
    assert starts > 8
    assert totals == expected
    assert drops_of(tasks, tmp_path / "out") == drops_of(tasks, tmp_path / "whole")
    for path in (tmp_path / "whole").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes()
    assert not list((tmp_path / "out").rglob("*.aside"))


def test_one_worker_alone_leaves_what_all_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, _ = corpus_with_copies(12, 80)
    config, tasks = config_of(**ALL), cut(texts, [11])
    totals = [found_in(config, tasks, tmp_path / "alone")[0]]
    monkeypatch.setattr(plan.Plan, "is_small", False)
    totals.append(found_in(config, tasks, tmp_path / "all")[0])
    assert totals[0] == totals[1]
    for path in (tmp_path / "alone" / "out").rglob("*.*"):
        assert (
            path.read_bytes() == (tmp_path / "all" / "out" / path.relative_to(tmp_path / "alone" / "out")).read_bytes()
        )
    assert {path.name for path in (tmp_path / "alone" / "out").rglob("*.table")} == {"000000.table"}


def test_what_is_not_asked_for_is_not_done(tmp_path: Path) -> None:
    tasks = [["same text", "same text"], [], ["other"]]
    totals, dropped, cuts = found_in(config_of(), tasks, tmp_path)
    assert (totals.exact, totals.near, totals.paragraphs, dropped, cuts) == (0, 0, 0, {}, set())


@pytest.mark.parametrize("tasks", [[], [[]], [[], ["", "!!!", "x"], []]])
def test_next_to_nothing(tmp_path: Path, tasks: list[list[str]]) -> None:
    totals, dropped, cuts = found_in(config_of(**ALL), tasks, tmp_path)
    assert (totals.exact, totals.near, totals.paragraphs, dropped, cuts) == (0, 0, 0, {}, set())
    assert all(len(read_drops(tmp_path / "out", task).documents) == 0 for task in range(len(tasks)))


def test_short_documents(tmp_path: Path) -> None:
    texts = ["one two", "One, two!", "one two three", "...", "...", "", "二", "二 ", "one two"]
    _, dropped, _ = found_in(config_of(**ALL), [texts], tmp_path)
    assert dropped == {1: "near", 4: "exact", 7: "exact", 8: "exact"}


def test_one_giant_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison of all pairs would be 450 million."""
    monkeypatch.setattr(plan, "UNIT_DOCUMENTS", 4096)
    monkeypatch.setattr(plan, "BUCKET_KEYS", 1 << 15)
    config, chance = config_of(near={"permutations": 16, "similarity": 0.5}), random.Random(0)
    base = words_of(chance, 12)
    texts = [" ".join([*base, str(number % 40)]) for number in range(30_000)]
    totals, dropped, _ = found_in(config, cut(texts, [10_000]), tmp_path)
    assert len(dropped) == 29_999
    assert (totals.near_groups, totals.near_largest) == (1, 30_000)


def test_a_pair_is_found_among_boilerplate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All documents share a third, which makes large groups in some bands; copies are found in others."""
    small_units(monkeypatch)
    chance = random.Random(9)
    shared = words_of(chance, 60)
    bodies = [words_of(chance, 120) for _ in range(130)]
    texts = [" ".join(shared + body) for body in bodies]
    texts += [" ".join(changed(shared + body, chance)) for body in bodies[:30]]
    _, dropped, _ = found_in(config_of(near={}), cut(texts, [33]), tmp_path)
    assert set(dropped) == set(range(130, 160))
