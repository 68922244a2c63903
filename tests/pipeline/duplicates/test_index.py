"""A finished data set's documents come before new ones and are not dropped again."""

import random
from pathlib import Path

import pytest

import pipeline.duplicates.plan as plan
from pipeline.base.errors import UserError
from pipeline.duplicates.find import find_duplicates
from pipeline.duplicates.index import save_index
from tests.pipeline.duplicates.copies import (
    Here,
    config_of,
    corpus_with_copies,
    cut,
    drops_of,
    found_in,
    save_keys,
    words_of,
)

ALL = config_of(documents=True, near={}, paragraphs=True)


def grow(texts: list[str], sizes: list[int], place: Path) -> tuple[dict[int, str], set[tuple[int, int]]]:
    """Data set after data set of so many documents, each compared with all before; numbered through all of them."""
    dropped, cuts, first, indexes = dict[int, str](), set[tuple[int, int]](), 0, list[Path]()
    for number, size in enumerate(sizes):
        here = place / str(number)
        tasks = cut(texts[first : first + size], [13])
        folders = save_keys(ALL, tasks, here / "keys")
        find_duplicates(ALL, folders, len(tasks), here / "out", Here(), indexes)  # type: ignore[arg-type]
        ours, paragraphs = drops_of(tasks, here / "out")
        dropped |= {first + document: kind for document, kind in ours.items()}
        cuts |= {(first + document, paragraph) for document, paragraph in paragraphs}
        save_index(ALL, folders, len(tasks), here / "out", here / "index", Here())  # type: ignore[arg-type]
        indexes.append(here / "index")
        first += size
    return dropped, cuts


@pytest.mark.parametrize("sizes", [[60, 60], [20, 50, 50], [119, 1], [1, 119]])
@pytest.mark.parametrize("unit", [1 << 16, 16])
def test_grown_is_as_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], unit: int) -> None:
    monkeypatch.setattr(plan, "UNIT_DOCUMENTS", unit)
    monkeypatch.setattr(plan, "UNIT_PARAGRAPHS", 3 * unit)
    texts, _ = corpus_with_copies(11, 120)
    _, *once = found_in(ALL, cut(texts, [50]), tmp_path / "once")
    assert list(grow(texts, sizes, tmp_path / "grown")) == once


def test_a_chain_is_settled_over_an_index(tmp_path: Path) -> None:
    """Two old documents that a new one takes up whole stay, and so does what only that new one has."""
    chance, near = random.Random(12), config_of(near={})
    first, second, third = (words_of(chance, 300) for _ in range(3))
    old, new = (
        [" ".join(first), " ".join(second)],
        [" ".join(first + second), " ".join(second + third), " ".join(third)],
    )
    folders = save_keys(near, [old], tmp_path / "keys")
    find_duplicates(near, folders, 1, tmp_path / "out", Here())  # type: ignore[arg-type]
    save_index(near, folders, 1, tmp_path / "out", tmp_path / "index", Here())  # type: ignore[arg-type]
    totals, dropped, _ = found_in(near, [new], tmp_path / "more", tmp_path / "index")
    assert dropped == {0: "near", 1: "near"}
    assert totals.examples["near"] == [((0, 0), (-1, 0)), ((0, 1), (-1, 1))]
    assert found_in(near, [old + new], tmp_path / "once")[1] == {2: "near", 3: "near"}


def test_places_of_an_index_are_told_apart(tmp_path: Path) -> None:
    text = "these words are in both of them and there are enough of them"
    folders = save_keys(ALL, [["something else", text]], tmp_path / "keys")
    find_duplicates(ALL, folders, 1, tmp_path / "out", Here())  # type: ignore[arg-type]
    save_index(ALL, folders, 1, tmp_path / "out", tmp_path / "index", Here())  # type: ignore[arg-type]
    totals, dropped, _ = found_in(ALL, [["new"], [text, text.upper(), text]], tmp_path / "more", tmp_path / "index")
    assert dropped == {1: "exact", 2: "near", 3: "exact"}
    assert totals.examples["exact"] == [((1, 0), (-1, 1)), ((1, 2), (-1, 1))]
    assert totals.examples["near"] == [((1, 1), (-1, 1))]
    assert totals.exact_largest == 3


def test_an_index_of_other_keys_is_refused(tmp_path: Path) -> None:
    config = config_of(near={"shingle_words": 4})
    folders = save_keys(config, [["text"]], tmp_path / "keys")
    find_duplicates(config, folders, 1, tmp_path / "out", Here())  # type: ignore[arg-type]
    save_index(config, folders, 1, tmp_path / "out", tmp_path / "index", Here())  # type: ignore[arg-type]
    for other in (config_of(near={}), config_of(documents=True), config_of(near={"shingle_words": 4}, paragraphs=True)):
        with pytest.raises(UserError, match=r"corpus\.deduplicate\.\w+ as"):
            found_in(other, [["text"]], tmp_path / "more", tmp_path / "index")
    with pytest.raises(UserError, match="does not exist"):
        found_in(config, [["text"]], tmp_path / "more", tmp_path / "nothing")
    totals, *_ = found_in(config, [["text"]], tmp_path / "again", tmp_path / "index")
    assert totals.near == 1
