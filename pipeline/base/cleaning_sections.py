"""Filters of documents: one class a filter, one line a key; a filter is off unless it is named."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_serializer, model_validator
from pydantic import SerializerFunctionWrapHandler as Handler

from pipeline.base.section import Fraction, Place, Positive, Section

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Kind = Literal["email", "card", "ip", "phone"]


def _language(value: Any) -> Any:
    if value is False:
        return "no"  # Norwegian, as YAML reads it
    if isinstance(value, str) and re.fullmatch("[a-z]{2,3}", value) is None:
        raise ValueError(f"{value!r} is no language code: two or three small letters, such as en")
    return value


def _language_or_auto(value: Any) -> Any:
    return value if value == "auto" else _language(value)


LanguageCode = Annotated[str, BeforeValidator(_language)]
"""An ISO 639 code."""


class RepairConfig(Section):
    """Broken characters are mended."""

    mojibake: bool = True
    """Text that was decoded in the wrong encoding is decoded anew (ftfy)."""
    entities: bool = True
    """HTML entities become characters; an escaped tag stays escaped."""
    controls: bool = True
    """Control and invisible format characters go, line ends become LF."""
    normal_form: Literal["NFC", "NFKC"] | None = "NFC"
    """Unicode normal form; NFKC also unifies full-width and other compatibility forms; null: as it is."""


class C4Config(Section):
    """C4's rules: lines that are no sentences go, then pages with too few sentences or with code."""

    terminal_punctuation: bool = True
    """Lines go that do not end in a full stop, a question or exclamation mark or a closing quotation mark."""
    min_line_words: Count = 5
    """Shorter lines go; in words (docs/cleaning.md)."""
    max_word_characters: Positive = 1000
    """Lines with a longer word go."""
    javascript: bool = True
    """Lines go that name JavaScript."""
    policy: bool = True
    """Lines go that speak of cookies, a privacy policy or terms of use."""
    citations: bool = True
    """Marks of Wikipedia go: [1], [edit], [citation needed]."""
    lorem_ipsum: bool = True
    """Documents with "lorem ipsum" are dropped."""
    curly_bracket: bool = True
    """Documents with a curly bracket are dropped; false where code is wanted."""
    min_sentences: Count = 3
    """Documents with fewer sentences left are dropped."""


class PersonalDataConfig(Section):
    """Marks take the place of personal data."""

    kinds: tuple[Kind, ...] = ("email", "card", "ip", "phone")
    """What becomes <EMAIL>, <CARD>, <IP> and <PHONE>."""


class BlocklistConfig(Section):
    """Documents from listed domains, or with listed words, are dropped."""

    domains: tuple[Text, ...] = ()
    """Domains, each with all below it, compared with the record's corpus.url_field."""
    domains_file: Place | None = None
    """More domains: a UTF-8 file, one a line, # begins a comment."""
    words: tuple[Text, ...] = ()
    """Whole words or phrases, in any case; parts of a text in scripts without spaces."""
    words_file: Place | None = None
    """More words, one a line, # begins a comment."""

    @model_validator(mode="after")
    def _something_listed(self) -> "BlocklistConfig":
        if not (self.domains or self.domains_file or self.words or self.words_file):
            raise ValueError("names nothing to block: give domains, domains_file, words or words_file")
        return self


class LengthConfig(Section):
    """Documents of another length are dropped."""

    min_characters: Count | None = None
    """Fewest characters."""
    max_characters: Count | None = None
    """Most characters."""
    min_words: Count | None = None
    """Fewest words (docs/cleaning.md)."""
    max_words: Count | None = None
    """Most words."""

    @model_validator(mode="after")
    def _a_limit(self) -> "LengthConfig":
        limits = {name: getattr(self, name) for name in type(self).model_fields}
        if all(limit is None for limit in limits.values()):
            raise ValueError(f"has no limit: give {', '.join(limits)}, or some of them")
        for unit in ("characters", "words"):
            least, most = limits[f"min_{unit}"], limits[f"max_{unit}"]
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{unit} {least} is above max_{unit} {most}: no document can pass")
        return self


class LanguageConfig(Section):
    """Documents in other languages, or in none that is sure, are dropped."""

    keep: tuple[LanguageCode, ...] = ()
    """Codes of the languages to keep, such as [en, zh]; empty: all."""
    min_score: Fraction = 0.65
    """Least probability of the identified language."""


class RatiosConfig(Section):
    """Documents of too many signs or too few letters are dropped; shares of the characters without white space."""

    max_symbols: Fraction = 0.1
    """Most share of symbols (Unicode S: + = $ ~ emoji)."""
    max_digits: Fraction = 0.3
    """Most share of digits."""
    max_punctuation: Fraction = 0.3
    """Most share of punctuation (Unicode P: . , # % / and brackets)."""
    min_letters: Fraction = 0.5
    """Least share of letters and of marks that belong to letters."""


class StopWordsConfig(Section):
    """Documents with few of their language's commonest words are dropped."""

    language: Annotated[str, BeforeValidator(_language_or_auto)] = "en"
    """Whose list (English has its own, others that of stopwordsiso); auto: of the language identified."""
    min_share: Fraction | None = None
    """Least share of the words that are stop words; null: 0.2 in English, 0.1 in others."""
    min_count: Count = 0
    """Fewest stop words."""

    @model_validator(mode="before")
    @classmethod
    def _norwegian(cls, values: Any) -> Any:
        return values | {"language": "no"} if isinstance(values, dict) and values.get("language") is False else values


class GopherQualityConfig(Section):
    """Gopher's quality rules."""

    min_words: Count = 50
    """Fewest words."""
    max_words: Count = 100_000
    """Most words."""
    min_mean_word_length: Amount = 3.0
    """Least mean length of a word, in characters; not asked of scripts without spaces."""
    max_mean_word_length: Amount = 10.0
    """Greatest mean length."""
    max_symbols_per_word: Amount = 0.1
    """Most # a word, and most ellipses a word."""
    max_bullet_lines: Fraction = 0.9
    """Most share of the lines that begin with a bullet."""
    max_ellipsis_lines: Fraction = 0.3
    """Most share of the lines that end in an ellipsis."""
    min_words_with_letter: Fraction = 0.8
    """Least share of the words that hold a letter."""
    stop_words: tuple[Text, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    """Words of which some must occur; not asked of scripts without spaces."""
    min_stop_words: Count = 2
    """How many different ones; 0 for other languages than the stop words'."""

    @model_validator(mode="after")
    def _can_pass(self) -> "GopherQualityConfig":
        for what in ("words", "mean_word_length"):
            least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if least > most:
                raise ValueError(f"min_{what} {least} is above max_{what} {most}: no document can pass")
        listed = len(set(self.stop_words))
        if self.min_stop_words > listed:
            raise ValueError(f"min_stop_words {self.min_stop_words} is more than the {listed} stop_words")
        return self


class FineWebConfig(Section):
    """FineWeb's rules for lines; null: not asked."""

    min_punctuated_lines: Fraction | None = 0.12
    """Documents are dropped whose share of lines that end in punctuation is at most this."""
    max_duplicate_line_characters: Fraction | None = 0.1
    """Documents are dropped whose share of characters in repeated lines is at least this."""
    max_short_lines: Fraction | None = 0.67
    """Documents are dropped whose share of short lines is at least this."""
    short_line_characters: Positive = 30
    """A line of fewer characters is short."""


class GopherRepetitionConfig(Section):
    """Gopher's repetition rules: greatest shares; 1 asks nothing."""

    max_duplicate_lines: Fraction = 0.3
    """Of the lines, those that repeat an earlier one."""
    max_duplicate_line_characters: Fraction = 0.2
    """Of the characters, those in such lines."""
    max_duplicate_paragraphs: Fraction = 0.3
    """Of the paragraphs, those that repeat an earlier one."""
    max_duplicate_paragraph_characters: Fraction = 0.2
    """Of the characters, those in such paragraphs."""
    max_top_ngram: tuple[Fraction, Fraction, Fraction] = (0.2, 0.18, 0.16)
    """Of the characters, those in the commonest run of 2, 3 and 4 words."""
    max_duplicate_ngrams: tuple[Fraction, Fraction, Fraction, Fraction, Fraction, Fraction] = (
        *(0.15, 0.14, 0.13),
        *(0.12, 0.11, 0.1),
    )
    """Of the characters, those in any run of 5, 6, 7, 8, 9 and 10 words that occurs twice."""
    count_first: bool = True
    """Whether the first occurrence of such a run counts too; false: only those that repeat it."""


class CleanConfig(Section):
    """What is mended in a document, and which documents are dropped; in this order.

    A filter is on when it is named: {}, true and null (an empty value in YAML) mean its defaults, false means off. An
    off filter is None here and dumped as false, so that it comes back off.
    """

    repair: RepairConfig | None = None
    """Mojibake, HTML entities, control characters, Unicode normal form."""
    c4: C4Config | None = None
    """Lines that are no sentences; pages with too few (Raffel et al. 2020)."""
    personal_data: PersonalDataConfig | None = None
    """E-mail and IP addresses, phone and card numbers become marks."""
    blocklist: BlocklistConfig | None = None
    """Domains and words."""
    length: LengthConfig | None = None
    """Characters and words."""
    language: LanguageConfig | None = None
    """The language that is identified."""
    ratios: RatiosConfig | None = None
    """Shares of symbols, digits, punctuation and letters."""
    stop_words: StopWordsConfig | None = None
    """Share of a language's stop words."""
    gopher_quality: GopherQualityConfig | None = None
    """Rae et al. 2021, appendix A1.1, quality."""
    fineweb: FineWebConfig | None = None
    """Penedo et al. 2024, section 3.6."""
    gopher_repetition: GopherRepetitionConfig | None = None
    """Rae et al. 2021, appendix A1.1, repetition."""

    @model_validator(mode="before")
    @classmethod
    def _named_is_on(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return {} if values is None else values
        return {name: _on_or_off(value) for name, value in values.items()}

    @model_serializer(mode="wrap")
    def _off_is_false(self, dump: Handler) -> dict[str, Any]:
        return {name: False if value is None else value for name, value in dump(self).items()}


def _on_or_off(value: Any) -> Any:
    if value is None or value is True:
        return {}
    return None if value is False else value
