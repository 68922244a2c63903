"""What a word is, and what else a text is taken apart into."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleaning import words as words_module
from pipeline.cleaning.parts import DIGIT, LETTER, OTHER, PUNCTUATION, SPACE, SYMBOL, Parts, repeated
from pipeline.cleaning.words import has_unspaced, pieces, split_words

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
    assert parts.word_count == len(words)
    assert [list(parts.vocabulary)[number] for number in parts.ids] == words
    assert parts.word_count == len(words)
    assert parts.counts.tolist() == [words.count(word) for word in parts.vocabulary]
    assert parts.lengths.tolist() == [len(word) for word in words]
    assert parts.unspaced == (2 * sum(map(has_unspaced, words)) > len(words))


def test_lines_and_paragraphs() -> None:
    parts = Parts(" one\ntwo \n \t\n\nthree\n\n")
    assert parts.lines == ["one", "two", "three"]
    assert parts.paragraphs == ["one\ntwo", "three"]
    assert Parts(" \n").lines == Parts("").paragraphs == []


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
    assert Parts("a1٣.$ \n\U00020000").characters.tolist() == [2, 2, 1, 1, 2, 0]


def test_repeated_lines() -> None:
    assert repeated([]) == (0, 0)
    assert repeated(["a", "b"]) == (0, 0)
    assert repeated(["aa", "b", "aa", "aa"]) == (2 / 4, 4 / 7)


@given(TEXTS, st.integers(1, 9))
def test_words_of_pieces_are_those_of_the_text(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words_module, "PIECE", size)
        cut = list(pieces(text))
    assert "".join(cut) == text
    assert [word for piece in cut for word in split_words(piece)] == split_words(text)


@pytest.mark.parametrize("unit", ["plain words here ", "你好，world。", "ab", "你"])
def test_long_texts_are_numbered_by_the_piece(unit: str) -> None:
    text = unit * (3 * words_module.PIECE // len(unit))
    words = split_words(text)
    parts, again = Parts(text), Parts(text)
    assert again.word_count == len(words)
    assert [list(parts.vocabulary)[number] for number in parts.ids.tolist()] == words
    assert parts.word_count == len(words)
