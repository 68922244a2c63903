"""Length, ratios and FineWeb's rules: each threshold at, just under and just over."""

from typing import Any

import pytest

from pipeline.base.cleaning_sections import FineWebConfig, LengthConfig, RatiosConfig
from pipeline.cleaning.parts import Parts
from pipeline.cleaning.quality import FineWeb, Length, Ratios


@pytest.mark.parametrize(
    ("limits", "text", "reason"),
    [
        ({"min_characters": 4}, "abc", "too few characters: 3"),
        ({"min_characters": 4}, "ab d", ""),
        ({"max_characters": 4}, "ab d", ""),
        ({"max_characters": 4}, "ab de", "too many characters: 5"),
        ({"min_words": 2}, "one", "too few words: 1"),
        ({"min_words": 2}, "one two", ""),
        ({"max_words": 2}, "one two", ""),
        ({"max_words": 2}, "one two three", "too many words: 3"),
        ({"max_words": 2}, "你好吗", "too many words: 3"),
        ({"min_characters": 2, "max_words": 1}, "a", "too few characters: 1"),
    ],
)
def test_length(limits: dict[str, int], text: str, reason: str) -> None:
    assert Length(LengthConfig(**limits)).fault(Parts(text)) == reason


def ratios(text: str) -> str:
    return Ratios(RatiosConfig()).fault(Parts(text))


@pytest.mark.parametrize(
    ("character", "most", "name"), [("+", 10, "symbols"), ("7", 30, "digits"), ("!", 30, "punctuation marks")]
)
def test_too_many(character: str, most: int, name: str) -> None:
    assert ratios(character * most + "a b " * ((100 - most) // 2)) == ""
    over = character * (most + 1) + "a" * (99 - most)
    assert ratios(over) == f"too many {name}: {(most + 1) / 100:.3g}"


def test_too_few_letters() -> None:
    mixed = "7" * 25 + "!" * 25
    assert ratios(mixed + "a" * 50) == ""
    assert ratios(mixed + "a" * 49) == "too few letters: 0.495"
    assert ratios(" \n") == ""


@pytest.mark.parametrize("text", ["हिन्दी में लिखा हुआ पाठ।", "ภาษาไทยที่นี่", "我们今天去公园。", "Ünïcödé tëxt."])
def test_letters_of_all_scripts_and_their_marks(text: str) -> None:
    assert ratios(text) == ""


def fineweb(lines: list[str], **keys: Any) -> str:
    nothing = {"min_punctuated_lines": None, "max_duplicate_line_characters": None, "max_short_lines": None}
    return FineWeb(FineWebConfig(**(nothing | keys))).fault(Parts("\n\n".join(lines)))


def test_lines_that_end_in_punctuation() -> None:
    lines = [f"line {place}" for place in range(87)] + ["end."] * 13
    assert fineweb(lines, min_punctuated_lines=0.12) == ""
    assert fineweb([*lines[:-1], "end"], min_punctuated_lines=0.12) == "too few lines end in punctuation: 0.12"


@pytest.mark.parametrize("mark", list(".!?…\"'”»」。！？؟।"))
def test_punctuation_of_many_scripts(mark: str) -> None:
    assert fineweb([f"line{mark}"], min_punctuated_lines=0.5) == ""


@pytest.mark.parametrize("mark", [",", ":", "-", "a", "，"])
def test_no_end_of_a_sentence(mark: str) -> None:
    assert fineweb([f"line{mark}"], min_punctuated_lines=0.5) == "too few lines end in punctuation: 0"


def test_characters_in_duplicate_lines() -> None:
    lines = ["aaaaaaaaaa", "b" * 80, "aaaaaaaaaa"]
    assert fineweb(lines, max_duplicate_line_characters=0.1) == "characters in duplicate lines: 0.1"
    lines[1] = "b" * 81
    assert fineweb(lines, max_duplicate_line_characters=0.1) == ""


def test_short_lines() -> None:
    lines = ["a" * 29] * 67 + ["b" * 30] * 33
    assert fineweb(lines, max_short_lines=0.67) == "too many short lines: 0.67"
    lines[0] = "a" * 30
    assert fineweb(lines, max_short_lines=0.67) == ""
    assert fineweb(lines, max_short_lines=0.67, short_line_characters=31) == "too many short lines: 1"


def test_fineweb_as_it_comes() -> None:
    config = FineWebConfig()
    assert (config.min_punctuated_lines, config.max_duplicate_line_characters, config.max_short_lines) == (
        0.12,
        0.1,
        0.67,
    )
    assert FineWeb(config).fault(Parts("")) == ""
