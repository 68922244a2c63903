"""The compiled filters against plain Python: hand-made and drawn texts of nasty Unicode, and real corpora."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.base.cleaning_sections import CleanConfig
from pipeline.cleaning.cleaner import Cleaner
from tests.pipeline.cleaning import plain

SPACES = " \n\t\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u3000"
ODD = "\x00\x08\x7f\xad\u180e\u200b\u200c\u200d\u2060\ufeff\ufffd\U000e0041\U0010ffff\U000f0000"
MARKS = "\u0301\u0e31\u0e48\u093f\u3099\ufe0f\U0001f3fd\u20e3"
LETTERS = "aZéßİΣ한й\u0e01\u0e97\u0f40\u1000\u1780\ua000你好的カｶ々〇\u3400\U00020000\U0001b000ªⅫ²"
UNASSIGNED = "\U0001b123\U0002fffe\U00033000\U0003ffff\u0378"
"""Some of them in the ranges of scripts without spaces, though no letters."""
SIGNS = "._-*#•·…。，《》！？「」\"'’“”$+%&1٣५👍👩🏳"
CHARACTERS = st.sampled_from(SPACES * 3 + ODD + MARKS + LETTERS * 4 + UNASSIGNED + SIGNS * 2) | st.characters(
    exclude_categories=["Cs"]
)
PIECES = st.sampled_from(
    [
        "the ",
        "of ",
        "The, ",
        "...",
        "…\n",
        "a b c ",
        "one line.\n",
        "one line.\n\n",
        "你好，",
        "的",
        "我们今天去公园看花。\n",
        "ที่นี่",
        "- ",
    ]
) | st.text(CHARACTERS, max_size=6)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Pieces of which some come again and again."""
    pieces = draw(st.lists(PIECES, min_size=1, max_size=8))
    order = draw(st.lists(st.integers(0, len(pieces) - 1), max_size=60))
    return "".join(pieces[place] for place in order)


LIMITS = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.05, 0.1, 0.2, 0.5])
SECTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "length": st.fixed_dictionaries({"min_words": st.integers(0, 20), "max_words": st.integers(20, 60)}),
    "ratios": st.fixed_dictionaries({}, optional=dict.fromkeys(("max_symbols", "max_digits", "min_letters"), LIMITS)),
    "gopher_quality": st.fixed_dictionaries(
        {"min_words": st.integers(0, 5), "min_mean_word_length": st.floats(0, 4), "min_stop_words": st.integers(0, 3)},
        optional={
            "max_mean_word_length": st.floats(4, 9),
            "max_symbols_per_word": LIMITS,
            "max_bullet_lines": LIMITS,
            "max_ellipsis_lines": LIMITS,
            "min_words_with_letter": LIMITS,
            "stop_words": st.sampled_from([("the", "of", "The"), ("a", "b", "的", "ß")]),
        },
    ).filter(lambda keys: keys["min_stop_words"] <= len(set(keys.get("stop_words", "abc")))),
    "fineweb": st.fixed_dictionaries(
        {},
        optional={
            "min_punctuated_lines": LIMITS | st.none(),
            "max_duplicate_line_characters": LIMITS | st.none(),
            "max_short_lines": LIMITS | st.none(),
            "short_line_characters": st.integers(1, 12),
        },
    ),
    "gopher_repetition": st.fixed_dictionaries(
        {
            "max_duplicate_lines": LIMITS,
            "max_duplicate_line_characters": LIMITS,
            "max_duplicate_paragraphs": LIMITS,
            "max_duplicate_paragraph_characters": LIMITS,
        },
        optional={
            "max_top_ngram": st.tuples(LIMITS, LIMITS, LIMITS),
            "max_duplicate_ngrams": st.tuples(*[LIMITS] * 6),
            "count_first": st.booleans(),
        },
    ),
}
NO_LINES = dict.fromkeys(
    (
        "max_duplicate_lines",
        "max_duplicate_line_characters",
        "max_duplicate_paragraphs",
        "max_duplicate_paragraph_characters",
    ),
    1,
)


def check(config: CleanConfig, text: str) -> None:
    found = Cleaner(config).apply(text)
    assert (found.filter, found.reason) == plain.outcome(config, text)
    assert found.text == (None if found.filter else text)


@pytest.mark.parametrize("name", SECTIONS)
@settings(max_examples=300)
@given(data=st.data(), text=texts())
def test_each_filter(name: str, data: st.DataObject, text: str) -> None:
    check(CleanConfig.model_validate({name: data.draw(SECTIONS[name])}), text)


@settings(max_examples=300)
@given(st.lists(st.sampled_from("ab的好xyz,"), max_size=80), st.sampled_from([" ", ""]), st.data())
@example(list("aabaabb"), " ", None)
def test_runs_of_words(words: list[str], between: str, data: st.DataObject | None) -> None:
    limits = {"max_top_ngram": (0, 0, 0)} if data is None else data.draw(SECTIONS["gopher_repetition"])
    check(CleanConfig.model_validate({"gopher_repetition": limits | NO_LINES}), between.join(words))


CONFIGS = [
    {"length": {"min_characters": 200}, "ratios": {}, "gopher_quality": {}, "fineweb": {}, "gopher_repetition": {}},
    {"gopher_quality": {"min_words": 0, "max_bullet_lines": 0.1, "max_ellipsis_lines": 0.1, "min_stop_words": 8}},
    {"gopher_repetition": NO_LINES | {"max_top_ngram": (0.03, 0.01, 0.01)}},
    {"gopher_repetition": NO_LINES | {"max_duplicate_ngrams": (0.02, 0.02, 0.01, 0.01, 0, 0), "count_first": False}},
]
SAMPLE = 3_000_000


def sample(folder: Path, characters: int) -> Iterator[str]:
    """Texts of all files in turn, in all about so many characters."""
    files = sorted(folder.glob("*.zst"))
    for file in files:
        taken = 0
        with zstandard.open(file, "rb") as packed:
            for line in io.BufferedReader(packed):
                text = json.loads(line)["text"]
                taken += len(text)
                yield text
                if taken > characters / len(files):
                    break


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
def test_real_corpora(language: str, real_data: Path) -> None:
    configs = [CleanConfig.model_validate(config) for config in CONFIGS]
    cleaners = [Cleaner(config) for config in configs]
    dropped = 0
    for number, text in enumerate(sample(real_data / "corpus" / language, SAMPLE // (3 if language == "zh" else 1))):
        for place in {0, 1 + number % 3}:
            found = cleaners[place].apply(text)
            assert (found.filter, found.reason) == plain.outcome(configs[place], text), text[:100]
            dropped += bool(found.filter)
    assert dropped
