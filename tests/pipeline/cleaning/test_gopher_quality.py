"""Gopher's quality rules: each threshold at, just under and just over; what is not asked of scripts without spaces."""

from typing import Any

import pytest

from pipeline.base.cleaning_sections import GopherQualityConfig
from pipeline.cleaning.gopher_quality import GopherQuality
from pipeline.cleaning.parts import Parts


def fault(text: str, **keys: Any) -> str:
    return GopherQuality(GopherQualityConfig(**keys)).fault(Parts(text))


def words(count: int, *special: str) -> str:
    """So many words that pass every rule, the given ones among them."""
    return " ".join(["the", *special, "of", *["plain"] * (count - 2 - len(special))])


def test_stop_words_beside_punctuation_count() -> None:
    text = " ".join(["“The", "(of)", *["plain"] * 50])
    assert fault(text) == ""
    assert fault(text.replace("(of)", "off")) == "too few stop words: 1"


def test_number_of_words() -> None:
    assert fault(words(49)) == "too few words: 49"
    assert fault(words(50)) == ""
    assert fault(words(100_000)) == ""
    assert fault(words(100_001)) == "too many words: 100001"
    assert fault("", min_words=0) == ""


@pytest.mark.parametrize(
    ("long", "reason"),
    [(0, "words too short: 2.98 characters"), (1, ""), (2, "")],
)
def test_least_mean_word_length(long: int, reason: str) -> None:
    text = " ".join(["the", "of", *["abc"] * (48 - long), *["abcd"] * long])
    assert fault(text) == reason


@pytest.mark.parametrize(("long", "reason"), [(44, ""), (45, ""), (46, "words too long: 10 characters")])
def test_greatest_mean_word_length(long: int, reason: str) -> None:
    text = " ".join(["the", "to", *["a" * 10] * (98 - 15 - long), *["b" * 11] * long, *["c" * 8] * 15])
    mean = sum(map(len, text.split())) / 100
    assert (mean > 10) == bool(reason)
    assert fault(text) == reason


@pytest.mark.parametrize("sign", ["#", "...", "…"])
def test_symbols_a_word(sign: str) -> None:
    what = "hashes" if sign == "#" else "ellipses"
    assert fault(words(50, *[f"{sign}tag"] * 5)) == ""
    assert fault(words(50, *[f"{sign}tag"] * 6)) == f"too many {what}: 0.12 a word"
    assert fault(words(50, *[f"{sign}tag"] * 6), max_symbols_per_word=0.12) == ""


def test_both_spellings_of_the_ellipsis_are_added_up() -> None:
    assert fault(words(50, *["tag..."] * 3, *["tag…"] * 3)) == "too many ellipses: 0.12 a word"


@pytest.mark.parametrize("bullet", ["•", "-", "*", "‣", "●"])
def test_bullet_lines(bullet: str) -> None:
    text = [words(12), *[f"  {bullet} plain words here today"] * 9]
    assert fault("\n".join(text)) == ""
    assert fault("\n\n".join([*text, f"{bullet} plain"])) == "too many bullet lines: 0.909"


@pytest.mark.parametrize("sign", ["...", "…"])
def test_lines_that_end_in_an_ellipsis(sign: str) -> None:
    lines = [words(20)] * 7 + [f"plain words again{sign} "] * 3
    assert fault("\n".join(lines)) == ""
    assert fault("\n".join(lines[1:])) == "too many lines ending in an ellipsis: 0.333"


@pytest.mark.parametrize("bare", ["2019", "--", "_12_", "3,141.5"])
def test_words_with_a_letter(bare: str) -> None:
    assert fault(words(50, *[bare] * 10)) == ""
    assert fault(words(50, *[bare] * 11), min_mean_word_length=0) == "too few words with a letter: 0.78"


@pytest.mark.parametrize("word", ["a1", "(x)", "«é»", "12я", "ª", "#न"])
def test_one_letter_of_any_script_is_enough(word: str) -> None:
    assert fault(words(50, *[f"{word}##" if "#" not in word else word] * 5), max_symbols_per_word=9) == ""


def test_stop_words() -> None:
    plain = " ".join(["plain"] * 50)
    assert fault(plain) == "too few stop words: 0"
    assert fault(f"{plain} the the") == "too few stop words: 1"
    assert fault(f"The {plain} OF") == ""
    assert fault(f"{plain} der und", stop_words=("der", "und", "die")) == ""
    assert fault(plain, min_stop_words=0) == ""


def test_chinese_is_not_asked_for_spaces_or_english_words() -> None:
    text = "我们今天去公园看花，花开得很好。" * 10
    assert fault(text) == ""
    assert fault(text[:40]) == "too few words: 36"
    assert fault(text, min_words=500) == "too few words: 140"


def test_a_text_with_a_little_chinese_is_asked() -> None:
    assert fault(" ".join(["plain"] * 50) + "公园") == "too few stop words: 0"
