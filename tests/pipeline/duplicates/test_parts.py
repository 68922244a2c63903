"""Tables, keys, plans, groups, pairs and joins, each by itself."""

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import UserError
from pipeline.duplicates.bands import KEY, NEIGHBOURS, Pairs, neighbours
from pipeline.duplicates.equal import group_equal, sums
from pipeline.duplicates.equal_loops import first_equal
from pipeline.duplicates.keys import read_counts, read_rows
from pipeline.duplicates.near import join, roots
from pipeline.duplicates.plan import bucket_of, pieces
from pipeline.duplicates.tables import Spool, iterate_part, read_notes, read_part, write_table
from tests.pipeline.duplicates.copies import config_of, save_keys
from tests.pipeline.duplicates.plain import weighed_length

ROW = np.dtype([("value", "<i8"), ("more", "<u2")])


@given(st.lists(st.integers(0, 4), max_size=50))
def test_tables_give_each_part_its_rows(tmp_path_factory: pytest.TempPathFactory, parts: list[int]) -> None:
    path = tmp_path_factory.mktemp("table") / "one.table"
    rows = np.array([(number, number % 7) for number in range(len(parts))], ROW)
    write_table(path, rows, np.array(parts, int), 5, {"told": "so"})
    assert read_notes(path) == {"told": "so"}
    for part in range(5):
        expected = [number for number, its in enumerate(parts) if its == part]
        assert read_part(path, part, ROW)["value"].tolist() == expected
        assert [value for some in iterate_part(path, part, ROW) for value in some["value"].tolist()] == expected


def test_a_shortened_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "one.table"
    write_table(path, np.zeros(9, ROW), np.zeros(9, int), 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="shorter"):
        read_part(path, 0, ROW)
    with pytest.raises(ValueError, match="notes"), Spool(ROW) as spool:
        spool.save(path, np.zeros(1, int), {"long": "x" * 5000})


def test_keys_are_read_by_ranges(tmp_path: Path) -> None:
    config = config_of(documents=True, near={"permutations": 32}, paragraphs=True, min_paragraph_characters=5)
    texts = [f"text number {number}\n\nand more of it" for number in range(500)]
    folder = save_keys(config, [texts], tmp_path)(0)
    assert read_counts(folder) == (500, 1000)
    for kind, shape in (("documents", (500,)), ("near", (500, 32)), ("paragraphs", (1000,))):
        whole = read_rows(folder, kind, config, 0, shape[0])
        assert whole.shape == shape
        assert (read_rows(folder, kind, config, 100, 117) == whole[100:117]).all()
        assert len(read_rows(folder, kind, config, 4, 4)) == 0
        with pytest.raises(UserError, match="shorter"):
            read_rows(folder, kind, config, 0, shape[0] + 1)
    paragraphs = read_rows(folder, "paragraphs", config, 0, 1000)
    assert paragraphs["document"].tolist() == [number // 2 for number in range(1000)]
    assert paragraphs["number"].tolist() == [0, 1] * 500


def test_white_space_around_and_line_ends_make_no_other_document(tmp_path: Path) -> None:
    texts = [
        "two\nlines",
        "two\r\nlines",
        " two\rlines\r\n",
        "two\nlines\n\n",
        "two\n\nlines",
        "two lines",
        "　二\r",
        "二",
        "",
    ]
    config = config_of(documents=True)
    rows = read_rows(save_keys(config, [texts], tmp_path)(0), "documents", config, 0, len(texts))
    keys = [row.tobytes() for row in rows]
    assert [keys.index(key) for key in keys] == [0, 0, 0, 0, 4, 5, 6, 6, 8]
    assert keys[7] == hashlib.blake2b("二".encode(), digest_size=16).digest()


@pytest.mark.parametrize(
    ("paragraph", "counts"),
    [
        ("word " * 19 + "word", 99),
        ("word " * 19 + "words", 100),
        ("漢字" * 17, 102),
        ("漢字。" * 14, 98),
        ("ไทย" * 11, 99),
    ],
)
def test_a_character_of_a_script_without_spaces_counts_as_three(tmp_path: Path, paragraph: str, counts: int) -> None:
    assert weighed_length(paragraph) == counts
    folder = save_keys(config_of(paragraphs=True), [[f"heading\n\n{paragraph}\n\nend"]], tmp_path)(0)
    assert read_counts(folder) == (1, counts >= 100)


def test_off_is_not_written(tmp_path: Path) -> None:
    folder = save_keys(config_of(documents=True), [["one"]], tmp_path)(0)
    assert sorted(path.name for path in folder.iterdir()) == ["counts.json", "documents.bin"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_pieces_cover_a_range(sizes: list[int], data: st.DataObject) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    first = data.draw(st.integers(0, int(starts[-1])))
    stop = data.draw(st.integers(first, int(starts[-1])))
    numbers = [
        int(starts[source]) + one for source, start, end in pieces(starts, first, stop) for one in range(start, end)
    ]
    assert numbers == list(range(first, stop))
    assert all(0 <= start < end <= sizes[source] for source, start, end in pieces(starts, first, stop))


def test_buckets_are_ranges_of_keys() -> None:
    keys = np.sort(np.random.default_rng(0).integers(0, 2**64, 10_000, np.uint64))
    buckets = bucket_of(keys, 7)
    assert (np.diff(buckets) >= 0).all()
    assert np.bincount(buckets, minlength=7).min() > 1200
    assert bucket_of(np.array([0, 2**64 - 1], np.uint64), 7).tolist() == [0, 6]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_groups_of_equal_rows(rows: list[tuple[int, int]]) -> None:
    columns = np.array(rows, np.uint64).reshape(-1, 2)
    groups = group_equal(columns[:, 0], columns[:, 1])
    assert first_equal(columns[:, 0], columns[:, 1]).tolist() == [rows.index(row) for row in rows]
    repeats, firsts = groups.repeats
    expected = {number: rows.index(row) for number, row in enumerate(rows) if rows.index(row) != number}
    assert dict(zip(repeats.tolist(), firsts.tolist(), strict=True)) == expected
    assert set(groups.firsts.tolist()) == {rows.index(row) for row in rows}
    counted = dict(zip(groups.firsts.tolist(), sums(groups, np.ones(len(rows), int)).tolist(), strict=True))
    assert counted == {rows.index(row): rows.count(row) for row in rows}


@given(st.lists(st.integers(0, 3), max_size=40))
def test_neighbours_within_groups(keys: list[int]) -> None:
    rows = np.array([(key, number) for number, key in enumerate(sorted(keys))], KEY)
    found = Pairs()
    found.add(neighbours(rows))
    pairs = {(int(pair["later"]), int(pair["earlier"])): int(pair["bands"]) for pair in found.counted()}
    expected = set()
    for later in range(len(rows)):
        group = [number for number in range(later) if rows["key"][number] == rows["key"][later]]
        expected |= {(later, earlier) for earlier in {*group[:1], *group[-NEIGHBOURS:]}}
    assert pairs == dict.fromkeys(expected, 1)


@given(st.integers(1, 60), st.data())
def test_joins_are_connected_components(count: int, data: st.DataObject) -> None:
    numbers = st.integers(0, count - 1)
    chunks = data.draw(st.lists(st.lists(st.tuples(numbers, numbers), max_size=30), max_size=4))
    first = np.arange(count)
    for chunk in chunks:
        pairs = np.array(chunk, int).reshape(-1, 2)
        join(first, pairs[:, 0], pairs[:, 1])
    ones, others = zip(*[pair for chunk in chunks for pair in chunk] or [(0, 0)], strict=True)
    graph = scipy.sparse.coo_matrix((np.ones(len(ones)), (ones, others)), shape=(count, count))
    _, labels = scipy.sparse.csgraph.connected_components(graph, directed=False)
    smallest = [int(np.flatnonzero(labels == label)[0]) for label in labels]
    assert roots(first, np.arange(count)).tolist() == smallest


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled", "in pieces"])
def test_long_chains_are_joined(order: str) -> None:
    count = 200_000
    numbers = np.arange(1, count)
    if order == "backward":
        numbers = numbers[::-1]
    elif order != "forward":
        numbers = np.random.default_rng(0).permutation(numbers)
    first = np.arange(count)
    for some in np.array_split(numbers, 50 if order == "in pieces" else 1):
        join(first, some, some - 1)
    assert not roots(first, np.arange(count)).any()


def test_pairs_that_are_many_are_counted_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.duplicates.bands.MOST_PAIRS", 10)
    chance, pairs = random.Random(0), Pairs()
    pairs.limit = 10
    drawn = [(chance.randrange(5), chance.randrange(5)) for _ in range(500)]
    for start in range(0, 500, 7):
        rows = np.ones(len(drawn[start : start + 7]), [("later", "<i8"), ("earlier", "<i8"), ("bands", "<i8")])
        rows["later"], rows["earlier"] = zip(*drawn[start : start + 7], strict=True)
        pairs.add([rows])
        assert pairs.size <= 60
    counted = {(int(pair["later"]), int(pair["earlier"])): int(pair["bands"]) for pair in pairs.counted()}
    assert counted == {pair: drawn.count(pair) for pair in set(drawn)}
