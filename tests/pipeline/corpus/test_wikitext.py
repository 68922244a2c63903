"""Wikitext to text: mark by mark, beside mwparserfromhell on what both keep, and in linear time on hostile pages."""

import random
import re

import mwparserfromhell
import pytest

from pipeline.corpus.wikitext import plain_text


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Bold''' ''italic'' '''''both''''' L''''amour'''' don't", "Bold italic both L'amour' don't"),
        ("[[Target]] [[Target|label]]s [[a#b]] [[:Category:X]] [[Help:A (b)|]]", "Target labels a#b Category:X A"),
        ("a [[File:x.jpg|thumb|A [[caption]] of [[two|2]] links]]b [[Category:C]][[fr:Un]]", "a b"),
        ("[https://a.b label text] [https://a.b] [//a.b c] [mailto:a@b.c mail] [1]", "label text c mail [1]"),
        ("a{{t|{{u|[[v]]}}|w={{{1|}}}}}b {{unclosed", "ab {{unclosed"),
        ("a\n{| class=x\n| b {{c|}}\n{|\n| inner\n|}\n|}\nd", "a\n\nd"),
        ("{{infobox\n|a={|\n|never closed\n}}text", "text"),
        ("{|\n| a table that is not closed\nstays as text", "stays as text"),
        ("a<ref>b [[c]]</ref> d<ref name=x /> e<ref>not closed", "a d enot closed"),
        ("a<!-- [[b]] -->c<!-- not closed", "ac"),
        ("<nowiki>[[a]] ''b'' {{c}}</nowiki>", "[[a]] ''b'' {{c}}"),
        ("<math>x^2</math>y<gallery>z</gallery><syntaxhighlight lang=c>int</syntaxhighlight>", "y"),
        ("<div class='a'>b</div><span>c</span>d<br/>e &amp; &lt;f&gt;&nbsp;g", "b\ncd\ne & <f> g"),
        ("* one\n** two\n# three\n: four\n; five\n----\n__NOTOC__", "one\ntwo\nthree\nfour\nfive"),
        ("a ({{lang|fr|b}}) c ({{d}}; {{e}}), f", "a c, f"),
        ("-{简体}- -{zh-hans:简; zh-hant:繁}- -{H|zh-cn:a;zh-tw:b}- -{A|zh-cn:c;zh-tw:d}-", "简体 简 c"),
        ("", ""),
        ("{{only}}\n[[Category:X]]", ""),
    ],
)
def test_marks(wikitext: str, text: str) -> None:
    assert plain_text(wikitext) == text


def test_names_of_the_wiki() -> None:
    silent = {"datei", "kategorie"}
    assert plain_text("a [[Datei:x.jpg|mini|b]] [[Kategorie:C]]d", silent) == "a d"


def test_headings_with_nothing_under_them_go() -> None:
    page = "Lead\n\n\n== A ==\n=== B ===\ntext\n=== C ===\n{{t}}\n== D ==\n\n== E ==\n==== F ====\n* item\n== G ==\n"
    assert plain_text(page) == "Lead\n\nA\n\nB\ntext\n\nE\n\nF\nitem"


def test_the_same_words_as_mwparserfromhell() -> None:
    """On prose with links, emphasis, headings, lists, templates and entities, which both treat alike."""
    draw = random.Random(3)
    words = ["élan", "漢字", "don't", "U.S.", "x-ray", "'''bold'''", "''it''", "[[link]]", "[[a b|label]]", "{{t|1}}"]
    words += ["&amp;", "<b>tag</b>", "<br />", "[https://a.b c]", "{{t|{{u}}}}", "<!-- c -->", "1,000"]
    for _ in range(200):
        lines = []
        for _ in range(draw.randint(1, 8)):
            line = " ".join(draw.choices(words, k=draw.randint(1, 12)))
            lines.append(draw.choice(("{}", "{}", "* {}", "== {} ==\ntext", "# {}")).format(line))
        page = "\n".join(lines)
        theirs = mwparserfromhell.parse(page).strip_code()
        assert re.findall(r"\w+", plain_text(page)) == re.findall(r"\w+", theirs), page


@pytest.mark.parametrize(
    "mark",
    [
        "{{a|",
        "[[a",
        "<div>",
        "<ref>",
        "<nowiki>",
        "<!--",
        "{|\n",
        "[http://a ",
        "'''",
        "=",
        "== a ==\n",
        "-{",
        "<a",
        "&",
        "( ",
    ],
)
def test_hostile_pages_take_linear_time(mark: str) -> None:
    """Half a megabyte of one mark; what is quadratic would take minutes."""
    plain_text(mark * (500_000 // len(mark)) + "x")
    plain_text("x" * 10 + mark * (500_000 // len(mark)))
