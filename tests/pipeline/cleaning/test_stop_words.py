"""Stop words: thresholds, lists of languages, text that has none."""

from typing import Any

import pytest
import stopwordsiso
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.cleaning_sections import LanguageConfig, StopWordsConfig
from pipeline.base.errors import UserError
from pipeline.cleaning.language import Language
from pipeline.cleaning.parts import Parts
from pipeline.cleaning.stop_words import StopWords
from tests.pipeline.cleaning.plain import words_of


def stop_words(text: str, **keys: Any) -> str:
    return StopWords(StopWordsConfig(**keys)).fault(Parts(text))


def test_share_of_stop_words() -> None:
    assert stop_words("the " + "zebra " * 4) == ""
    assert stop_words("the " + "zebra " * 5) == "too small a share of stop words: 0.167"
    assert stop_words("the " + "zebra " * 9, min_share=0.1) == ""
    assert stop_words('"The, ' + "zebra " * 4) == ""
    assert stop_words("“Don’t” " + "zebra " * 4) == ""
    assert stop_words("der " + "Zebra " * 9, language="de") == ""
    assert stop_words("") == ""


def test_number_of_stop_words() -> None:
    assert stop_words("the of zebra", min_count=2) == ""
    assert stop_words("the zebra", min_count=2) == "too few stop words: 1"


def test_languages_of_stop_words() -> None:
    assert stop_words("der Hund und die Katze", language="de", min_share=0.5) == ""
    assert stop_words("الكلب في البيت", language="ar", min_share=0.3) == ""
    assert stop_words("我们的公园是很好的。", language="zh", min_share=0.3) == ""
    assert stop_words("这是一个", language="zh", min_count=5) == "too few stop words: 4"
    assert stop_words("これは公園です", language="ja", min_share=0.2) == ""
    assert stop_words("zebra " * 9, language="zh") == "too small a share of stop words: 0"


def test_punctuation_and_digits_are_no_stop_words() -> None:
    assert stop_words("! ! ! 5 5", language="ko") == "too small a share of stop words: 0"


def test_languages_that_cannot_be() -> None:
    with pytest.raises(UserError, match=r"clean.stop_words.language: there is no list of stop words for xx; there are"):
        StopWords(StopWordsConfig(language="xx"))
    with pytest.raises(UserError, match="th is written without spaces and has no stop words of one letter"):
        StopWords(StopWordsConfig(language="th"))


@pytest.mark.parametrize(
    "text",
    [
        "Buy cheap viagra online best price free shipping order today",
        "Home About Contact Login Register",
        "Home | About Us | Contact Us | Sign In | Log Out | Terms of Use",
    ],
)
def test_keywords_and_menus_are_no_text(text: str) -> None:
    assert stop_words(text).startswith("too small a share of stop words: 0")
    assert stop_words(text, language="auto").startswith("too small a share of stop words: 0")


def test_auto_takes_the_list_of_the_language_identified() -> None:
    german = "Gestern sind wir mit dem Zug nach Hamburg gefahren, weil das Wetter an der See so schön war."
    assert stop_words(german) == "too small a share of stop words: 0.111"
    assert stop_words(german, language="auto") == ""
    nouns = "Hamburger Fischmarkt Zugfahrkarten Schnäppchen Herbsturlaub Ostseewetter Sonnenschein"
    assert stop_words(nouns, language="auto") == "too small a share of stop words: 0"
    assert stop_words("我们的公园是很好的，今天去看了。", language="auto") == ""
    assert stop_words("สวัสดีครับ วันนี้อากาศดีมาก", language="auto", min_share=1) == "", "Thai has no list"


def test_the_language_is_identified_once() -> None:
    parts = Parts("The house by the sea is for sale again this year.")
    Language(LanguageConfig()).fault(parts)
    found = parts.identified
    assert found is not None
    assert found[0] == "en"
    parts.identified = ("de", 1.0)
    assert StopWords(StopWordsConfig(language="auto")).fault(parts)


AROUND = ".,;:!?()[]{}\"'“”‘’«»„…-–—¿¡*_"
WORDS = {code: sorted(stopwordsiso.stopwords(code)) for code in ("fr", "el", "tr", "uk", "ja", "zh")}


@pytest.mark.parametrize("language", WORDS)
@given(data=st.data())
def test_counts_against_plain_python(language: str, data: st.DataObject) -> None:
    listed = {word.lower() for word in WORDS[language] if any(map(str.isalpha, word))}
    forms = st.sampled_from([str, str.upper, str.title, lambda word: word.replace("'", "’")])
    word = st.builds(
        lambda form, word: form(word), forms, st.sampled_from(WORDS[language]) | st.text("aİΣςσ’'ıé", max_size=4)
    )
    around = st.text(AROUND, max_size=2)
    text = " ".join(data.draw(st.lists(st.builds("{}{}{}".format, around, word, around), max_size=12)))
    if language in ("ja", "zh"):
        expected = sum(character in listed for character in text)
    else:
        lowered = [(word, word.lower().replace("’", "'")) for word in words_of(text)]
        expected = sum(not listed.isdisjoint({word, lower, lower.strip(AROUND)}) for word, lower in lowered)
    assert stop_words(text, language=language, min_count=999) == f"too few stop words: {expected}"
