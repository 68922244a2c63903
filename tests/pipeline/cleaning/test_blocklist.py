"""Blocklists: domains with all below them, whole words, phrases, scripts without spaces; files and their mistakes."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.base.cleaning_sections import BlocklistConfig
from pipeline.base.errors import UserError
from pipeline.cleaning.blocklist import Blocklist
from pipeline.cleaning.parts import Parts


def blocklist(**keys: Any) -> Blocklist:
    return Blocklist(BlocklistConfig(**keys))


@pytest.mark.parametrize(
    "url",
    [
        "https://bad.com/page?x=1",
        "http://WWW.Bad.com:8080",
        "bad.com/page",
        "bad.com/?to=http://good.com//x",
        "https://user:secret@a.b.bad.com.",
        "//bad.com",
        " \thttps://bad.com/page\n",
        "https://bücher.example/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_blocked_domains(url: str) -> None:
    blocked = "xn--bcher-kva.example" if "example" in url else "bad.com"
    assert blocklist(domains=["*.Bad.com", "bücher.example"]).domain_fault(url) == f"domain: {blocked}"


@pytest.mark.parametrize(
    "url",
    ["", "https://good.com/bad.com", "https://notbad.com", "https://bad.com.au", "com", "http://[::1", "a b", "://"],
)
def test_other_domains(url: str) -> None:
    assert blocklist(domains=["bad.com"]).domain_fault(url) == ""


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("bad", "So BAD!", True),
        ("bad", "badly abad bad_ one", False),
        ("bad", "这个bad网站", True),
        ("straße", "STRASSE", True),
        ("café", "cafe\u0301", True),
        ("two words", "Two\n  words.", True),
        ("two words", "two wordsmiths", False),
        ("two words", "two wordsmiths two words", True),
        ("f*ck", "f*ck f*cking", True),
        ("f*ck", "f*cking", False),
        ("c++", "C++11", True),
        ("赌博", "网上赌博网站", True),
        ("赌博", "赌 博", False),
        ("हिन्दी", "यह हिन्दी है", True),
        ("हिन्द", "यह हिन्दी है", False),
        ("casino", "casinos", False),
    ],
)
def test_words(word: str, text: str, found: bool) -> None:
    folded = " ".join(word.split())
    expected = {"straße": "word: strasse"}.get(word, f"word: {folded}") if found else ""
    assert blocklist(words=[word]).fault(Parts(text)) == expected


def test_the_first_of_several_in_their_order() -> None:
    assert blocklist(words=["b", "a", "c d"]).fault(Parts("c d b a")) == "word: a"


@pytest.mark.parametrize("text", ["词", "a 词7乙 b", "word 9 here", "word 1000 here", "word 123 here word 12", ""])
def test_a_long_list_finds_what_a_short_one_does(text: str) -> None:
    words = [f"word {place}" for place in range(400)] + [f"词{place}乙" for place in range(400)] + ["词"]
    found = [fault for word in words if (fault := blocklist(words=[word]).fault(Parts(text)))]
    assert blocklist(words=words).fault(Parts(text)) == min(found, default="")


def test_domains_alone_block_no_words() -> None:
    assert blocklist(domains=["bad.com"]).fault(Parts("bad.com")) == ""


def test_files(tmp_path: Path) -> None:
    domains, words = tmp_path / "domains.txt", tmp_path / "words.txt"
    domains.write_text("\ufeff# list\n\nbad.com   # the worst\n*.worse.com\n", encoding="utf-8")
    words.write_text("c#\r\nevil\r\n# none\r\n", encoding="utf-8")
    found = blocklist(domains_file=str(domains), words_file=str(words), words=["bad"])
    assert [found.domain_fault(f"http://{host}/") for host in ("bad.com", "a.worse.com", "list")] == [
        "domain: bad.com",
        "domain: worse.com",
        "",
    ]
    assert [found.fault(Parts(text)) for text in ("C# here", "evil", "bad", "none")] == [
        "word: c#",
        "word: evil",
        "word: bad",
        "",
    ]


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("one\n")
    assert blocklist(words_file=str(path)).fault(Parts("one two")) == "word: one"
    path.write_text("two words\ntwo\n")
    assert blocklist(words_file=str(path)).fault(Parts("one two")) == "word: two"


def test_mistakes(tmp_path: Path) -> None:
    missing, hosts, binary = tmp_path / "no.txt", tmp_path / "hosts", tmp_path / "x.gz"
    hosts.write_text("a.com\n0.0.0.0 bad.com\n")
    binary.write_bytes(b"\x1f\x8b\xff")
    with pytest.raises(UserError, match=r"clean.blocklist.words_file: .*no.txt does not exist"):
        blocklist(words_file=str(missing))
    with pytest.raises(UserError, match=r"hosts:2: '0.0.0.0 bad.com' is no domain; write it without scheme"):
        blocklist(domains_file=str(hosts))
    with pytest.raises(UserError, match=r"clean.blocklist.domains: 'http://bad.com' is no domain"):
        blocklist(domains=["http://bad.com"])
    with pytest.raises(UserError, match="cannot be read as UTF-8 text"):
        blocklist(words_file=str(binary))
    with pytest.raises(UserError, match="cannot be read"):
        blocklist(words_file=str(tmp_path))
