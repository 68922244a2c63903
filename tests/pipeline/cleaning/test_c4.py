"""C4's rules: which lines go, which pages are dropped, what each option switches off."""

from collections import Counter
from typing import Any

import pytest

from pipeline.base.cleaning_sections import C4Config
from pipeline.cleaning.c4 import C4

GOOD = "This line is a whole sentence."


def mended(*lines: str, **keys: Any) -> tuple[str, str]:
    return C4(C4Config(**({"min_sentences": 1} | keys))).mend("\n".join(lines), Counter())


@pytest.mark.parametrize(
    ("line", "stays"),
    [
        ("this line has no end", False),
        ("this line ends in a comma,", False),
        ("this line goes on and on...", False),
        ("this line goes on and on…", False),
        ('"Is this line a question?"', True),
        ("“Is this line a question?”", True),
        ("one two three four.", False),
        ("one two three four five.", True),
        ("one two three four " + "x" * 1000 + ".", False),
        ("one two three four " + "x" * 999 + ".", True),
        ("Please enable JavaScript in your browser.", False),
        ("Read our Privacy Policy to learn more.", False),
        ("This site uses cookies for your comfort.", False),
        ("We like cookies more than other biscuits.", True),
        ("花开得很好。", True),
        ("花开得很好", False),
        ("花很好。", False),
        ("花开得很好！", True),
        ("「花开得很好」", True),
        ("Эта строка целое предложение здесь.", True),
        ("यह पंक्ति एक पूरा वाक्य है।", True),
    ],
)
def test_lines(line: str, stays: bool) -> None:
    edits: Counter[str] = Counter()
    text, reason = C4(C4Config(min_sentences=1)).mend(f"{GOOD}\n  {line} \n{GOOD}", edits)
    assert not reason
    assert text == "\n".join([GOOD, *[line] * stays, GOOD])
    assert edits == ({} if stays else {"c4.lines": 1})


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"terminal_punctuation": False}, "this line has no end"),
        ({"min_line_words": 0}, "Short."),
        ({"max_word_characters": 2000}, "one two three four " + "x" * 1000 + "."),
        ({"javascript": False}, "Please enable JavaScript in your browser."),
        ({"policy": False}, "Read our privacy policy to learn more."),
        ({"curly_bracket": False}, "A set is written {a, b} here."),
        ({"lorem_ipsum": False}, "It begins Lorem ipsum dolor sit amet."),
        ({"citations": False}, "So said the old king [12] himself."),
    ],
)
def test_each_rule_can_be_off(option: dict[str, Any], line: str) -> None:
    assert mended(GOOD, line) != (f"{GOOD}\n{line}", "")
    assert mended(GOOD, line, **option) == (f"{GOOD}\n{line}", "")


def test_pages_that_are_dropped() -> None:
    assert mended(GOOD, "function() { return 1; }") == ("", "curly bracket")
    assert mended(GOOD, "Lorem Ipsum dolor") == ("", "lorem ipsum")
    assert mended("no line", "is good", min_sentences=0) == ("", "no line left")


def test_sentences() -> None:
    config = {"min_sentences": 3}
    assert mended(GOOD, GOOD, **config) == ("", "too few sentences: 2")
    assert mended(GOOD, GOOD, GOOD, **config)[1] == ""
    assert mended("One is here. Two is “there!” Is three?", **config)[1] == ""
    assert mended("Version 1.2.3 is one sentence here.", **config) == ("", "too few sentences: 1")
    assert mended("花开得很好。我们去公园。天气好！", **config)[1] == ""
    assert mended("no end of a sentence here at all", terminal_punctuation=False)[1] == ""


def test_citations_go() -> None:
    edits: Counter[str] = Counter()
    text = C4(C4Config(min_sentences=1)).mend("So[1] said[23][] the king[citation needed] then[edit] a[i].", edits)[0]
    assert text == "So said the king then a[i]."
    assert edits == {"c4.citations": 5}


def test_a_line_that_ends_in_a_citation_is_judged_without_it() -> None:
    assert mended("So said the old king.[12]") == ("So said the old king.", "")


def test_blank_lines_part_paragraphs() -> None:
    assert mended("", GOOD, "", "no", "", "", GOOD, GOOD, " ", "no") == (f"{GOOD}\n\n{GOOD}\n{GOOD}", "")
