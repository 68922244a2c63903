"""What a word is, and what else a text is taken apart into."""

import re
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleaning.characters import (
    DIGIT,
    IS_LETTER,
    IS_SPACE,
    IS_TERMINAL,
    IS_UNSPACED,
    IS_WORD,
    KIND,
    LETTER,
    OTHER,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    TERMINAL,
    classes,
)
from pipeline.cleaning.parts import Parts
from pipeline.cleaning.words import UNSPACED, has_unspaced, split_words

TEXTS = st.text(st.sampled_from("ab .,(«\n\t你好，。しカｶกั้ပြ한é1\u200d\U00020000"), max_size=40)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One, two;\nthree", ["One,", "two;", "three"]),
        ("你好，world《红楼梦》！！ 5%", ["你", "好，", "world《", "红", "楼", "梦》！！", "5%"]),
        ("《红》 (a)", ["《红》", "(a)"]),
        ("iPhone15发布", ["iPhone15", "发", "布"]),
        ("東京へ行く", ["東", "京", "へ", "行", "く"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("ភាសា", ["ភា", "សា"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("نص عربي", ["نص", "عربي"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@given(TEXTS)
def test_words_hold_every_character_but_white_space_once(text: str) -> None:
    assert "".join(split_words(text)) == "".join(text.split())


def test_scripts_without_spaces() -> None:
    assert all(map(has_unspaced, ("漢", "ひ", "ｶ", "ไ", "ລ", "བ", "က", "ខ", "\U00020000", "々")))
    assert not any(map(has_unspaced, ("a", "é", "한", "ع", "अ", "я", "，", "1", "ั")))


@given(TEXTS)
def test_parts_agree_with_the_text(text: str) -> None:
    parts = Parts(text)
    words = split_words(text)
    assert [parts.vocabulary[number] for number in parts.words.ids] == words
    assert parts.vocabulary == list(dict.fromkeys(words))
    assert parts.words.counts.tolist() == [words.count(word) for word in parts.vocabulary]
    assert parts.words.lengths.tolist() == [len(word) for word in parts.vocabulary]
    assert parts.words.characters == sum(map(len, words))
    assert parts.words.bare == sum(re.search(r"[^\W\d_]", word) is None for word in words)
    assert parts.unspaced == (2 * sum(map(has_unspaced, words)) > len(words))


def test_lines_and_paragraphs() -> None:
    lines = Parts(" one\ntwo. \n \t\n\n- three...\n\n").lines
    assert lines.lengths.tolist() == [3, 4, 10]
    assert (lines.bullets, lines.terminal, lines.ellipses) == (1, 2, 1)
    assert lines.repeats == (3, 3, 17, 17)
    assert lines.paragraphs == (2, 2, 18, 18)
    for text in ("", " \n"):
        assert Parts(text).lines.repeats == Parts(text).lines.paragraphs == (0, 0, 0, 0)


def test_the_table_of_characters_agrees_with_python() -> None:
    every = "".join(map(chr, range(0x110000)))
    table = classes()
    for bit, pattern in (
        (IS_SPACE, r"\s"),
        (IS_UNSPACED, f"[{UNSPACED}]"),
        (IS_WORD, r"\w"),
        (IS_LETTER, r"[^\W\d_]"),
        (IS_TERMINAL, f"[{re.escape(''.join(TERMINAL))}]"),
    ):
        found = np.zeros(len(every), bool)
        found[[match.start() for match in re.finditer(pattern, every)]] = True
        assert ((table & bit > 0) == found).all(), pattern
    assert [place for place in range(0x110000) if chr(place).isspace()] == np.flatnonzero(table & IS_SPACE).tolist()
    assert ((table & KIND == SPACE) == (table & IS_SPACE > 0)).all()


def test_kinds_of_characters() -> None:
    def kind(character: str) -> int:
        category = unicodedata.category(character)
        if character.isspace():
            return SPACE
        if category == "Nd":
            return DIGIT
        return {"L": LETTER, "M": LETTER, "P": PUNCTUATION, "S": SYMBOL, "Z": SPACE}.get(category[0], OTHER)

    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x323B0)]))
    expected = [0] * 6
    for character in text:
        if unicodedata.category(character) != "Cn" or ord(character) < 0x20000:
            expected[kind(character)] += 1
    counts = Parts(text).characters.tolist()
    assert counts[1:5] == expected[1:5]
    assert sum(counts) == len(text)
    assert Parts("a1٣.$ \n\U00020000").characters.tolist()[:6] == [2, 2, 1, 1, 2, 0]


def test_repeated_lines() -> None:
    repeats = Parts("aa\nb\naa\n aa ").lines.repeats
    assert (repeats.share, repeats.share_of_characters) == (2 / 4, 4 / 7)
    for text in ("", "a\nb"):
        assert Parts(text).lines.repeats.share == Parts(text).lines.repeats.share_of_characters == 0


@pytest.mark.parametrize("between", ["\n", "\n\n", "\n \n"])
def test_many_different_lines_and_words(between: str) -> None:
    """Tables grow."""
    rows = [f"{number} {number % 7777}é" for number in range(20_000)] * 2
    parts = Parts(between.join(rows))
    words = [word for row in rows for word in row.split()]
    assert [parts.vocabulary[number] for number in parts.words.ids.tolist()] == words
    assert parts.lines.repeats == parts.lines.paragraphs or between == "\n"
    assert parts.lines.repeats[:2] == (40_000, 20_000)
    assert parts.lines.repeats[2] == 2 * parts.lines.repeats[3] == sum(map(len, rows))


@pytest.mark.parametrize("sign", ["(", "\u0301", "\U00033000", "你(", "a(", "\n\n-"])
def test_a_megabyte_of_one_sign_takes_no_time(sign: str) -> None:
    text = sign * (1_000_000 // len(sign)) + " "
    Parts(sign * 9).words, Parts(sign * 9).lines
    started = time.process_time()
    words, lines = Parts(text).words, Parts(text).lines
    assert time.process_time() - started < 1
    assert words.counts.sum() == len(words.ids)
    assert len(lines.lengths) == len(text.split())
