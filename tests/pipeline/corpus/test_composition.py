"""What a corpus is made of: scripts by letters, documents by input."""

from collections import Counter

import pytest

from pipeline.corpus.scripts import SAMPLED, ScriptSample, count_scripts, script_of


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


def test_only_the_beginning_is_sampled() -> None:
    counts: Counter[str] = Counter()
    count_scripts("a" * (SAMPLED - 1) + "漢" * 10, counts)
    assert counts == {"Latin": SAMPLED - 1, "Han": 1}


def test_many_texts_are_counted_together() -> None:
    texts = ["", "漢字 abc", "я" * (SAMPLED + 5), *("Ab 1😀" for _ in range(5000))]
    counts, sample = Counter[str](), ScriptSample()
    for text in texts:
        count_scripts(text, counts)
        sample.add(text)
    assert sample.counts() == dict(sorted(counts.items())) == {"Cyrillic": SAMPLED, "Han": 2, "Latin": 3 + 2 * 5000}
    assert ScriptSample().counts() == {}
