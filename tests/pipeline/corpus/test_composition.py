"""What a corpus is made of: scripts by letters, documents by input."""

import pytest

from pipeline.corpus.scripts import SAMPLED, ScriptSample, script_of


@pytest.mark.parametrize(
    ("character", "script"),
    [
        ("a", "Latin"),
        ("Ａ", "Latin"),
        ("漢", "Han"),
        ("〇", None),
        ("я", "Cyrillic"),
        ("ا", "Arabic"),
        ("1", None),
        (" ", None),
    ],
)
def test_script_of(character: str, script: str | None) -> None:
    assert script_of(character) == script


def test_the_beginnings_of_many_texts_are_counted_together() -> None:
    texts = ["", "漢字 abc", "я" * (SAMPLED - 1) + "漢" * 10, *("Ab 1😀" for _ in range(5000))]
    sample = ScriptSample()
    for text in texts:
        sample.add(text)
    assert sample.counts() == {"Cyrillic": SAMPLED - 1, "Han": 3, "Latin": 3 + 2 * 5000}
    assert ScriptSample().counts() == {}
