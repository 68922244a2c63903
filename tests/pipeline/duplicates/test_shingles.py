"""Shingles against a tokenizer written with strings and loops, and their independence of how texts are put together."""

import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.duplicates.characters import MAY_COMPOSE, table
from pipeline.duplicates.shingles import Shingler
from pipeline.duplicates.texts import encoded
from tests.pipeline.duplicates.plain import WINDOW, cut

ALPHABET = "abcXYZ09 .,'-\n\téÉßñ中文字測試ひらカタ。กขคงาิ่हिन्दी한국어\u0301\u200d😀\U00020000\ue000"
CHARACTERS, PARTS = "中文字測試ひらカタ\U00020000", "กขคงา"


def words_and_sizes(text: str, words: int, characters: int) -> list[tuple[str, int]]:
    """Tokens, and how many a shingle that begins with each has."""
    tokens: list[tuple[str, int]] = []
    after_letter = alone = False
    for character in text:
        kind = "" if character == "\ue000" else unicodedata.category(character)[0]
        stands_alone = character in CHARACTERS or character in PARTS
        if kind not in ("L", "N", "M"):
            after_letter = alone = False
            continue
        lower = character.lower() if len(character.lower()) == 1 else character.lower()[0]
        if not after_letter or stands_alone or (alone and kind != "M"):
            size = characters if character in CHARACTERS else 2 * characters if character in PARTS else words
            tokens.append((lower, size))
        else:
            tokens[-1] = (tokens[-1][0] + lower, tokens[-1][1])
        after_letter, alone = True, stands_alone or (alone and kind == "M")
    return tokens


def shingles_of(text: str, words: int, characters: int) -> set[tuple[str, ...]]:
    tokens = words_and_sizes(text, words, characters)
    names = [name for name, _ in tokens]
    found = {
        tuple(names[place : place + size]) for place, (_, size) in enumerate(tokens) if place + size <= len(tokens)
    }
    return found or ({tuple(names)} if names else set())


def hashes_of(shingler: Shingler, texts: list[str]) -> list[list[int]]:
    hashes, offsets, _ = shingler.cut(encoded(texts))
    return [hashes[int(a) : int(b)].tolist() for a, b in pairwise(offsets)]


@given(st.lists(st.text(ALPHABET, max_size=60), min_size=2, max_size=5), st.integers(1, 4), st.integers(1, 4))
def test_shingles_are_those_of_the_reference(texts: list[str], words: int, characters: int) -> None:
    ours = [set(hashes) for hashes in hashes_of(Shingler(words, characters), texts)]
    theirs = [shingles_of(text, words, characters) for text in texts]
    for number in range(len(texts)):
        assert len(ours[number]) == len(theirs[number])
        assert len(ours[number] & ours[0]) == len(theirs[number] & theirs[0])


@given(
    st.lists(st.one_of(st.text(ALPHABET, max_size=80), st.text(max_size=60)), max_size=6),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_hashes_are_those_of_the_plain_code(texts: list[str], words: int, characters: int) -> None:
    assert hashes_of(Shingler(words, characters), texts) == cut(texts, words, characters)


@pytest.mark.parametrize(
    "text",
    [
        "".join(map(chr, range(0x110000))),
        "".join(f"{chr(point)}a\u0301{chr(point)}中 " for point in range(0x3400)),
        "a" * (3 * WINDOW + 5) + "中" + "b" * WINDOW + "\u0301 c",
        "中" + "\u0301" * (WINDOW + 3) + "a b " + "\u0301" * (2 * WINDOW),
        "x" * WINDOW + " one " + "y" * (WINDOW - 1) + "\u0301z",
    ],
    ids=["all code points", "each beside others", "long words", "long marks", "as long as a window"],
)
def test_rare_texts_are_cut_as_by_the_plain_code(text: str) -> None:
    assert hashes_of(Shingler(5, 4), [text, "a" + text]) == cut([text, "a" + text], 5, 4)


def test_what_may_not_be_composed_is_noticed() -> None:
    """All that does not stand so in NFC, or joins with what stands before it."""
    seconds = {"\u1161", "\u1175", "\u11a8", "\u11c2"}
    for point in map(chr, range(0x110000)):
        parts = unicodedata.decomposition(point).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(chr(int(parts[1], 16)))
    for point in map(chr, range(0x110000)):
        bad = unicodedata.combining(point) or not unicodedata.is_normalized("NFC", point) or point in seconds
        known = ord(point) < len(table().kinds) and table().kinds[ord(point)] >= MAY_COMPOSE
        assert known or not bad, hex(ord(point))
    texts = ["plain", "naïve", "nai\u0308ve", "한", "\u1112\u1161\u11ab", "\u212b", "中", ""]
    assert Shingler(5, 4).cut(encoded(texts)).may_compose.tolist() == [
        False,
        False,
        True,
        False,
        True,
        True,
        False,
        False,
    ]


@given(st.lists(st.text(max_size=40), max_size=6))
def test_a_text_has_the_same_shingles_alone_and_among_others(texts: list[str]) -> None:
    shingler = Shingler(3, 2)
    assert hashes_of(shingler, texts) == [hashes_of(shingler, [text])[0] for text in texts]


@pytest.mark.parametrize(
    ("piece", "tokens", "size"),
    [("one two Three; ", 3, 5), ("四個字的詞組很長，", 8, 4), ("กาแฟ ดี", 5, 8), ("naïve café ", 2, 5)],
)
def test_windows_cut_between_tokens(piece: str, tokens: int, size: int) -> None:
    repeats = 3 * WINDOW // len(piece)
    (hashes,) = hashes_of(Shingler(5, 4), [piece * repeats])
    assert set(hashes) == set(hashes_of(Shingler(5, 4), [piece * 12])[0])
    assert len(hashes) == tokens * repeats - (size - 1)


def test_a_word_without_end_and_surrogates_pass() -> None:
    hashes = hashes_of(Shingler(5, 4), ["a" * (2 * WINDOW + 7), "\ud800 lone", ""])
    assert [len(some) for some in hashes] == [1, 1, 0]


def test_case_and_punctuation_do_not_count_but_order_does() -> None:
    shingler = Shingler(5, 4)
    one, other, turned = hashes_of(
        shingler, ["The cat, sat on (the) mat!", "the CAT sat on the mat", "mat the on sat cat the"]
    )
    assert one == other
    assert not set(one) & set(turned)


def test_hashes_do_not_change() -> None:
    """An index keeps signatures of these: other hashes need another scheme (signatures.scheme)."""
    hashes = Shingler(2, 2).cut(encoded(["Straße 42", "中文字"])).hashes
    assert [f"{value:016x}" for value in hashes] == HASHES
    assert hashes.dtype == np.uint64


HASHES = ["179b1b2336db521d", "ddd66e0a214845e8", "3cbec0903bb5b9ee"]
