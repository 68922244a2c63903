"""Repair: mojibake, entities, controls, normal form; and what must stay as it is."""

from collections import Counter

import ftfy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.cleaning_sections import RepairConfig
from pipeline.cleaning.repair import Repair, unescape, without_controls

REPAIR = Repair(RepairConfig())


def mended(text: str) -> str:
    edits: Counter[str] = Counter()
    result, reason = REPAIR.mend(text, edits)
    assert not reason
    assert edits == ({"repair": 1} if result != text else {})
    return result


@pytest.mark.parametrize("encoding", ["latin-1", "sloppy-windows-1252", "sloppy-windows-1251", "iso-8859-2", "cp437"])
@pytest.mark.parametrize("text", ["“schön” – c’est très naïve, señor…", "Мы пошли в парк сегодня", "我们今天去公园"])
def test_utf8_that_was_read_in_another_encoding(text: str, encoding: str) -> None:
    broken = text.encode().decode(encoding)
    assert mended(f"Fine line ’ here.\n{broken}\nFine too.") == f"Fine line ’ here.\n{text}\nFine too."


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ("itâ€™s", "it’s"),
        ("Ã¢â‚¬Å“twiceÃ¢â‚¬\x9d", "“twice”"),
        ("mediÃ¦val", "mediæval"),
        ("voilÃ  le travail", "voilà le travail"),
        ("voilÃ le travail", "voilà le travail"),
        ("l’humanitÃ©", "l’humanité"),
        ("\x93quoted\x94 \x96 so", "“quoted” – so"),
        ("ðŸ˜€ ðŸ‘©â€\x8dðŸ’»", "😀 👩‍💻"),
        ("ä½\xa0å¥½", "你好"),
    ],
)
def test_mojibake(broken: str, text: str) -> None:
    assert mended(broken) == text


@given(st.text(st.sampled_from("aÃÂâ€™œž\x9d\x80¦© à’“ИзжЁ╬├ïÎ\u00a0\ufffd?\x1aé世"), max_size=25))
def test_mojibake_is_what_ftfy_finds_in_the_line(line: str) -> None:
    assert Repair(RepairConfig())._demojibake(line) == ftfy.fix_encoding(line)  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "“It’s fine” – naïve café, Ångström, ÆON… £5 ¿qué? São Tomé à É",
        "Привет, «мир» № 5",
        "日本語の文章、「引用」。",
        "سلام «دنیا»",
        "VOILÀ, ÇA VA",
        "x < y && a > b; AT&T; R&D &c; 5 & 6; ?a=1&copy=2&lang=en",
        "if (a & b) { c; }",
    ],
)
def test_what_is_right_stays(text: str) -> None:
    assert mended(text) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a &amp; b &quot;c&quot; &#39;d&#39; &#x2019;", "a & b \"c\" 'd' ’"),
        ("180&deg;C &hellip; &eacute; &AMP; &nbsp;x", "180°C … é & \xa0x"),
        ("&#150;&#137;", "–‰"),
        ("a &amp;amp; b &amp;quot;c&amp;quot;", 'a & b "c"'),
        ("&amp;amp;amp; four", "& four"),
        ("1 &lt; 2 &gt; 0, 2 &#60; 3, &lt;3", "1 < 2 > 0, 2 < 3, <3"),
        ("&unknown; &notit; &copyright; &; &#; &#x;", "&unknown; &notit; &copyright; &; &#; &#x;"),
        ("&#0; &#xD800; &#1114112;", "\ufffd \ufffd \ufffd"),
    ],
)
def test_entities(text: str, plain: str) -> None:
    assert unescape(text) == plain


@pytest.mark.parametrize(
    "tag",
    [
        "&lt;b&gt;",
        "&lt;/p&gt;",
        "&lt;br /&gt;",
        "&lt;a href=&quot;x&quot;&gt;",
        "&lt;!-- note --&gt;",
        "&lt;?php echo 1 ?&gt;",
        "&#60;script&#x3e;",
        "&lt;s&gt;",
        "&lt;EMAIL&gt;",
    ],
)
def test_escaped_tags_stay_escaped(tag: str) -> None:
    assert unescape(f"the {tag} tag &amp; more") == f"the {tag} tag & more"


def test_tags_escaped_twice_are_unescaped_once() -> None:
    assert unescape("&amp;lt;b&amp;gt;") == "&lt;b&gt;"


def test_comparisons_are_no_tags() -> None:
    assert unescape("if a&lt;b and c&gt;d") == "if a<b and c>d"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a\r\nb\rc\u2028d\x85e\x0cf", "a\nb\nc\nd\ne\nf"),
        ("a\x00b\x07c\x7fd\x9fe\tf", "abcde\tf"),
        ("\ufeffa\u200bb\u00adc\u2060d\u200ee\u202af\u2069g", "abcdefg"),
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("a\u200cb x\u200d", "ab x"),
        ("a\ufffcb\uffffc\ufdd0", "abc"),
        ("a\U000e0041\U000e007fb", "ab"),
    ],
)
def test_controls(text: str, plain: str) -> None:
    assert without_controls(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "می‌خواهم کتاب‌ها",  # Persian: ZWNJ
        "क्‍ष क्‌ष ශ්‍රී",  # Devanagari, Sinhala: ZWJ, ZWNJ
        "👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 ❤️‍🔥 👩🏽‍🚀",  # emoji: ZWJ
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",  # England's flag: tags
        "Word‌ها",
        "©️ 1️⃣ a\u00a0b\ufffd",
    ],
)
def test_invisible_characters_that_are_read_stay(text: str) -> None:
    assert without_controls(text) == text


def test_joiners_elsewhere_go() -> None:
    assert without_controls("Auf\u200clage, 你\u200d好, 1\u200c\u200d2") == "Auflage, 你好, 12"


def test_normal_forms() -> None:
    text = "e\u0301 ﬁ ，½ Å"
    assert mended(text) == "é ﬁ ，½ Å"
    assert Repair(RepairConfig(normal_form="NFKC")).mend(text, Counter()) == ("é fi ,1⁄2 Å", "")
    assert Repair(RepairConfig(normal_form=None)).mend(text, Counter()) == (text, "")


def test_each_part_can_be_off() -> None:
    text = "itâ€™s &amp;\u200b e\u0301"
    for off, expected in (
        ({"mojibake": False}, "itâ€™s & é"),
        ({"entities": False}, "it’s &amp; é"),
        ({"controls": False}, "it’s &\u200b é"),
        ({"normal_form": None}, "it’s & e\u0301"),
    ):
        assert Repair(RepairConfig(**off)).mend(text, Counter()) == (expected, "")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", " \n", "\u200b\ufeff", "&nbsp;", "\x00"])
def test_nothing_left(text: str) -> None:
    edits: Counter[str] = Counter()
    assert REPAIR.mend(text, edits) == ("", "nothing left")


@given(st.text(st.sampled_from("a &;lt#gtmp0<b>/x3Cé\u0301\u200c\u200dم\x00\r\nÃ©"), max_size=30))
def test_mending_twice_changes_nothing_more(text: str) -> None:
    once = REPAIR.mend(text, Counter())[0]
    assert not once or without_controls(once) == once
