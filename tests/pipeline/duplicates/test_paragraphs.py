"""What a paragraph is, and texts without some."""

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.duplicates.keys import paragraph_rows
from pipeline.duplicates.paragraphs import apply_paragraphs, split_paragraphs
from pipeline.duplicates.texts import encoded
from tests.pipeline.duplicates.plain import long_paragraphs

TEXTS = st.text("ab \n\t\r　", max_size=40)
MORE_TEXTS = st.text("ab漢ไé\U0001f600 \n\x85\u2028\u3000", max_size=60)


@given(TEXTS)
def test_pieces_together_are_the_text(text: str) -> None:
    assert "".join(piece + end for piece, end in split_paragraphs(text)) == text
    assert apply_paragraphs(text, []) == text


@given(TEXTS, st.sets(st.integers(0, 8)))
def test_what_is_not_cut_stays_in_order(text: str, cut: set[int]) -> None:
    kept = [piece.strip() for number, (piece, _) in enumerate(split_paragraphs(text)) if number not in cut]
    left = apply_paragraphs(text, cut)
    assert left.split() == " ".join(kept).split()
    assert left == "" or left.strip() or not cut


@given(st.lists(st.text("ab\n", max_size=9), max_size=5), st.integers(1, 9))
def test_a_text_of_other_paragraphs_is_split_as_before(pieces: list[str], least: int) -> None:
    """Cutting a paragraph does not join its neighbours."""
    text = "\n\n".join(pieces)
    before = list(long_paragraphs(text, least))
    if len(before) > 1:
        after = [paragraph for _, paragraph in long_paragraphs(apply_paragraphs(text, [before[0][0]]), least)]
        whole = [paragraph for _, paragraph in before[1:]]
        assert after == whole or len(before) == 2  # the last one left may be split at its lines


@pytest.mark.parametrize(
    ("text", "cut", "left"),
    [
        ("a\n\nb\n\nc", [1], "a\n\nc"),
        ("a\n\nb\n\nc", [2], "a\n\nb"),
        ("a\n\nb\n\nc", [0], "b\n\nc"),
        ("a\n\nb\n\nc", [0, 1, 2], ""),
        ("a\nb\nc\n", [0, 2], "b\n"),
        ("a1\na2\n \t\n\nb", [0], "b"),
        ("a\r\n\r\nb", [1], "a\r"),
        ("a", [0], ""),
        ("", [0], ""),
    ],
)
def test_cuts(text: str, cut: list[int], left: str) -> None:
    assert apply_paragraphs(text, cut) == left


@given(
    st.lists(st.one_of(TEXTS, st.text("ab漢ไé\U0001f600 \n\x85\u2028\u3000", max_size=60)), max_size=5),
    st.integers(1, 9),
)
def test_rows_are_those_of_the_plain_code(texts: list[str], least: int) -> None:
    rows = paragraph_rows(encoded(texts), 7, least)
    expected = [
        (7 + document, number, len(one), xxhash.xxh3_128_digest(one.encode()))
        for document, text in enumerate(texts)
        for number, one in long_paragraphs(text, least)
    ]
    assert [(row["document"], row["number"], row["characters"], row.tobytes()[:16]) for row in rows] == expected


def test_white_space_is_that_of_python() -> None:
    points = [point for point in map(chr, range(0x110000)) if point != "\n"]
    (row,) = paragraph_rows(encoded(["".join(points)]), 0, 1)
    assert row["characters"] == len("".join(points).strip())
    for point in points[:0x3100]:
        assert len(paragraph_rows(encoded([f"{point}\n\nb{point}"]), 0, 1)) == (1 if point.isspace() else 2)
        assert len(paragraph_rows(encoded([f"a\n{point}\nb\nc"]), 0, 1)) == (2 if point.isspace() else 4)


def test_short_ones_are_not_taken() -> None:
    assert list(long_paragraphs("12345\n\n   123   \n\n 12345 ", 4)) == [(0, "12345"), (2, "12345")]
