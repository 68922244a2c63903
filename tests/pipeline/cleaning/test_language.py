"""The language filter: from the package's own model, without the network, on a bounded part of the text."""

import socket

import pytest

from pipeline.base.cleaning_sections import LanguageConfig
from pipeline.base.errors import UserError
from pipeline.cleaning import language
from pipeline.cleaning.language import PART, Language
from pipeline.cleaning.parts import Parts

TEXTS = {
    "en": "We went to the park today to look at the flowers, which were in full bloom.",
    "de": "Wir sind heute in den Park gegangen, um uns die Blumen anzusehen.",
    "zh": "我们今天去公园看花，花开得很好，天气也不错。",
    "ar": "ذهبنا اليوم إلى الحديقة لمشاهدة الزهور الجميلة.",
    "ru": "Сегодня мы пошли в парк посмотреть на цветы.",
    "hi": "हम आज फूल देखने के लिए पार्क गए।",
}


def fault(text: str, *keep: str, min_score: float = 0.65) -> str:
    return Language(LanguageConfig(keep=keep, min_score=min_score)).fault(Parts(text))


@pytest.mark.parametrize("code", TEXTS)
def test_languages(code: str) -> None:
    assert fault(TEXTS[code], code) == fault(TEXTS[code]) == fault(TEXTS[code], "fr", code) == ""
    assert fault(TEXTS[code], "fr").startswith(f"another language: {code} ")


def test_languages_are_counted_also_of_dropped_documents() -> None:
    found = Language(LanguageConfig(keep=("en",)))
    for code in ("en", "de", "en"):
        found.fault(Parts(TEXTS[code]))
    assert found.languages == {"en": 2, "de": 1}


def test_score() -> None:
    best = language._detector()(TEXTS["en"], model="lite")[0]["score"]
    assert fault(TEXTS["en"], min_score=best) == ""
    assert fault(TEXTS["en"], min_score=best + 1e-6).startswith("language not sure: en ")
    assert fault("123 456").startswith("language not sure: ")


def test_lines_are_joined() -> None:
    assert fault("\n".join(TEXTS["de"].split()), "de") == ""
    assert fault(f"\n\n{TEXTS['de']}", "de") == ""


def test_a_long_text_is_judged_by_its_beginning_and_middle() -> None:
    half = f"{TEXTS['en']} " * 2000
    assert len(language._excerpt(half)) <= 2 * PART + 1
    assert fault(half + f"{TEXTS['zh']} " * 100, "en") == ""
    short = TEXTS["en"] * 3
    assert language._excerpt(short) == short


def test_a_code_that_the_model_does_not_know() -> None:
    with pytest.raises(UserError, match=r"clean.language.keep: xx is not among the languages .*: af, .*, zh\."):
        Language(LanguageConfig(keep=("en", "xx")))


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    language._detector.cache_clear()
    assert fault(TEXTS["en"], "en") == ""


def test_without_limits_nothing_is_dropped_and_all_is_counted() -> None:
    found = Language(LanguageConfig(keep=(), min_score=0))
    for text in ("The house by the sea is for sale.", "我们今天去公园。", "123", ""):
        assert found.fault(Parts(text)) == ""
    assert found.languages.total() == 4
    assert found.languages["zh"] == 1
