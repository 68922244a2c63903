"""corpus.clean: what is named is on, what is dumped comes back as it was, and every key has its row in the docs."""

from pathlib import Path

import pytest
import yaml

from pipeline.base.cleaning_sections import CleanConfig, GopherQualityConfig, LengthConfig
from pipeline.base.config import _section_of, config_from_dict, dump_config, load_config
from pipeline.base.errors import UserError
from pipeline.cleaning.cleaner import FILTERS

DOCUMENTATION = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def clean(*settings: str) -> CleanConfig:
    return load_config(None, settings).corpus.clean


def refused(*settings: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(None, settings)
    return str(caught.value)


def test_all_is_off_unless_named() -> None:
    assert all(getattr(clean(), name) is None for name in FILTERS)


def test_the_config_lists_the_filters_in_their_order() -> None:
    assert tuple(CleanConfig.model_fields) == FILTERS


@pytest.mark.parametrize("value", ["{}", "true", "", "null", "{min_words: 50}"])
def test_a_named_filter_is_on(value: str) -> None:
    assert clean(f"corpus.clean.gopher_quality={value}").gopher_quality == GopherQualityConfig()


def test_an_empty_value_in_a_file_is_on(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("corpus:\n  clean:\n    repair:\n    fineweb: true\n    c4: false\n    length: {min_words: 5}\n")
    config = load_config(path).corpus.clean
    assert [name for name in FILTERS if getattr(config, name) is not None] == ["repair", "length", "fineweb"]


def test_an_empty_section_has_all_off(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("corpus:\n  clean:\n")
    assert load_config(path).corpus.clean == CleanConfig()


def test_false_is_off() -> None:
    assert clean("corpus.clean.repair={}", "corpus.clean.repair=false").repair is None


def test_a_key_turns_its_filter_on() -> None:
    assert clean("corpus.clean.length.min_characters=200").length == LengthConfig(min_characters=200)
    assert clean("corpus.clean.repair=true", "corpus.clean.repair.mojibake=false").repair.mojibake is False  # type: ignore[union-attr]
    assert clean("corpus.clean.length=false", "corpus.clean.length.max_words=9").length == LengthConfig(max_words=9)


def test_a_dumped_config_comes_back() -> None:
    settings = ["corpus.clean.fineweb=", "corpus.clean.language.keep=[en, zh]", "corpus.clean.repair.normal_form=null"]
    config = load_config(None, settings)
    dumped = dump_config(config)
    assert "gopher_quality: false" in dumped
    again = config_from_dict(yaml.safe_load(dumped))
    assert again == config
    assert [name for name in FILTERS if getattr(again.corpus.clean, name) is not None] == [
        "repair",
        "language",
        "fineweb",
    ]


def test_a_corpus_of_a_mixture_has_its_own() -> None:
    settings = ["corpus.corpora.web.paths=[x]", "corpus.corpora.web.clean.c4=", "corpus.corpora.code.paths=[y]"]
    config = load_config(None, settings)
    assert config.corpus.corpora["web"].clean.c4 is not None  # type: ignore[union-attr]
    assert config.corpus.corpora["code"].clean is None
    assert config_from_dict(yaml.safe_load(dump_config(config))) == config


def test_norwegian_is_a_language() -> None:
    assert clean("corpus.clean.language.keep=[no, en]").language.keep == ("no", "en")  # type: ignore[union-attr]
    assert clean("corpus.clean.stop_words.language=no").stop_words.language == "no"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lenght=true", "command line: unknown key corpus.clean.lenght; did you mean corpus.clean.length?"),
        ("length.min_word=1", "did you mean corpus.clean.length.min_words?"),
        ("length={}", "command line: corpus.clean.length: has no limit: give min_characters"),
        ("length={min_words: 5, max_words: 4}", "min_words 5 is above max_words 4"),
        ("length.min_words=true", "corpus.clean.length: min_words is true, which is no value for it"),
        ("length.min_words=-1", "corpus.clean.length.min_words: Input should be greater than or equal to 0 (got -1)"),
        ("fineweb=3", "corpus.clean.fineweb: must be a mapping of keys to values (got 3)"),
        ("blocklist=", "corpus.clean.blocklist: names nothing to block: give domains"),
        ("gopher_quality.min_words=200000", "command line: corpus.clean.gopher_quality: min_words 200000 is above max"),
        ("gopher_quality.stop_words=[und]", "min_stop_words 2 is more than the 1 stop_words"),
        ("gopher_repetition.max_top_ngram=[1, 1]", "max_top_ngram.2: Field required"),
        ("language.keep=[english]", "'english' is no language code"),
        ("language.keep=en", "corpus.clean.language.keep: must be a list in brackets"),
        ("personal_data.kinds=[emial]", "'email', 'card', 'ip' or 'phone' (got 'emial')"),
        ("repair.normal_form=NFD", "'NFC' or 'NFKC' (got 'NFD')"),
    ],
)
def test_mistakes(setting: str, message: str) -> None:
    assert message in refused(f"corpus.clean.{setting}")


def test_a_mistake_beside_a_filter_that_is_on_is_told(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("corpus:\n  clean:\n    fineweb: true\n    gopher_qualty: true\n")
    with pytest.raises(UserError, match=r"my.yaml:4: unknown key .*did you mean corpus.clean.gopher_quality\?"):
        load_config(path)


def test_every_key_has_its_row() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    for name, field in CleanConfig.model_fields.items():
        section = _section_of(field.annotation)
        assert section is not None
        for key in (name, *(f"{name}.{key}" for key in section.model_fields)):  # type: ignore[attr-defined]
            assert f"`corpus.clean.{key}`" in text
