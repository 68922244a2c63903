"""The filters that drop by words and lines in plain Python: for tests to compare with."""

import re
import unicodedata
from collections import Counter
from itertools import groupby

from pipeline.base.cleaning_sections import (
    CleanConfig,
    FineWebConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
    LengthConfig,
    RatiosConfig,
)
from pipeline.cleaning.words import UNSPACED

_WORD = re.compile(rf"[^\s\w]*+[{UNSPACED}][^\s\w]*+|[^\s{UNSPACED}]+")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_LETTER = re.compile(r"[^\W\d_]")
_TERMINAL = tuple(".!?…\"'”’»」』。！？．｡؟۔।॥።\u104b។།")
_BULLETS = tuple("•‣◦▪●■-*·")
_ELLIPSES = ("...", "…")
_AROUND = ".,;:!?()[]{}\"'“”‘’«»„…-–—¿¡*_"


def words_of(text: str) -> list[str]:
    return _WORD.findall(text) if _UNSPACED.search(text) else text.split()


def is_unspaced(words: list[str]) -> bool:
    return 2 * sum(_UNSPACED.search(word) is not None for word in words) > len(words)


def lines_of(text: str) -> list[str]:
    return [line for part in text.split("\n") if (line := part.strip())]


def paragraphs_of(text: str) -> list[str]:
    stripped = [part.strip() for part in text.split("\n")]
    return ["\n".join(run) for filled, run in groupby(stripped, bool) if filled]


def repeated(items: list[str]) -> tuple[float, float]:
    """The share of those that repeat an earlier one, and theirs of the characters."""
    unique, total = set(items), sum(map(len, items))
    if len(unique) == len(items):
        return 0.0, 0.0
    return (len(items) - len(unique)) / len(items), (total - sum(map(len, unique))) / total


def kind(character: str) -> str:
    if character.isspace():
        return "space"
    if 0x20000 <= ord(character) < 0x40000:
        return "L"
    category = unicodedata.category(character) if ord(character) < 0x20000 else "Co"
    return category if category == "Nd" else "L" if category[0] in "LM" else category[0]


def length(config: LengthConfig, text: str) -> str:
    for unit, size in (("characters", len(text)), ("words", len(words_of(text)))):
        least, most = getattr(config, f"min_{unit}"), getattr(config, f"max_{unit}")
        if least is not None and size < least:
            return f"too few {unit}: {size}"
        if most is not None and size > most:
            return f"too many {unit}: {size}"
    return ""


def ratios(config: RatiosConfig, text: str) -> str:
    counts = Counter(map(kind, text))
    total = len(text) - counts["space"]
    if not total:
        return ""
    for name, of, most in (
        ("symbols", "S", config.max_symbols),
        ("digits", "Nd", config.max_digits),
        ("punctuation marks", "P", config.max_punctuation),
    ):
        if counts[of] / total > most:
            return f"too many {name}: {counts[of] / total:.3g}"
    share = counts["L"] / total
    return f"too few letters: {share:.3g}" if share < config.min_letters else ""


def gopher_quality(config: GopherQualityConfig, text: str) -> str:
    words, lines = words_of(text), lines_of(text)
    count, unspaced = len(words), is_unspaced(words)
    if count < config.min_words:
        return f"too few words: {count}"
    if count > config.max_words:
        return f"too many words: {count}"
    if not count:
        return ""
    mean = sum(map(len, words)) / count
    if mean < config.min_mean_word_length and not unspaced:
        return f"words too short: {mean:.3g} characters"
    if mean > config.max_mean_word_length:
        return f"words too long: {mean:.3g} characters"
    for name, found in (("hashes", text.count("#")), ("ellipses", text.count("...") + text.count("…"))):
        if found / count > config.max_symbols_per_word:
            return f"too many {name}: {found / count:.3g} a word"
    share = sum(_LETTER.search(word) is not None for word in words) / count
    if share < config.min_words_with_letter:
        return f"too few words with a letter: {share:.3g}"
    if config.min_stop_words and not unspaced:
        forms = [{word, word.capitalize(), word.upper()} for word in dict.fromkeys(config.stop_words)]
        whole, bare = set(words), {word.strip(_AROUND) for word in words}
        stop_words = sum(not form.isdisjoint(whole) for form in forms)
        if stop_words < config.min_stop_words:
            stop_words = sum(not form.isdisjoint(bare) for form in forms)
        if stop_words < config.min_stop_words:
            return f"too few stop words: {stop_words}"
    share = sum(line.startswith(_BULLETS) for line in lines) / len(lines)
    if share > config.max_bullet_lines:
        return f"too many bullet lines: {share:.3g}"
    share = sum(line.endswith(_ELLIPSES) for line in lines) / len(lines)
    return f"too many lines ending in an ellipsis: {share:.3g}" if share > config.max_ellipsis_lines else ""


def fineweb(config: FineWebConfig, text: str) -> str:
    lines = lines_of(text)
    if not lines:
        return ""
    share = sum(line.endswith(_TERMINAL) for line in lines) / len(lines)
    if config.min_punctuated_lines is not None and share <= config.min_punctuated_lines:
        return f"too few lines end in punctuation: {share:.3g}"
    share = repeated(lines)[1]
    if config.max_duplicate_line_characters is not None and share >= config.max_duplicate_line_characters:
        return f"characters in duplicate lines: {share:.3g}"
    share = sum(len(line) < config.short_line_characters for line in lines) / len(lines)
    if config.max_short_lines is not None and share >= config.max_short_lines:
        return f"too many short lines: {share:.3g}"
    return ""


def gopher_repetition(config: GopherRepetitionConfig, text: str) -> str:
    lines, paragraphs = lines_of(text), paragraphs_of(text)
    limits = (config.max_duplicate_lines, config.max_duplicate_line_characters)
    for what, items in (("lines", lines), ("paragraphs", paragraphs)):
        if what == "lines" or len(paragraphs) != len(lines):
            share, of_characters = repeated(items)
            if share > limits[0]:
                return f"duplicate {what}: {share:.3g}"
            if of_characters > limits[1]:
                return f"characters in duplicate {what}: {of_characters:.3g}"
        limits = (config.max_duplicate_paragraphs, config.max_duplicate_paragraph_characters)
    return _ngrams(config, words_of(text))


def _ngrams(config: GopherRepetitionConfig, words: list[str]) -> str:
    factor, numbers = 2 if is_unspaced(words) else 1, {word: n for n, word in enumerate(dict.fromkeys(words))}
    ids = [numbers[word] for word in words]
    top, duplicate = dict(enumerate(config.max_top_ngram, 2)), dict(enumerate(config.max_duplicate_ngrams, 5))
    starts = list(range(len(words)))
    for n in range(2, 11):
        starts = [start for start in starts if start <= len(words) - n * factor]
        runs = {start: tuple(ids[start : start + n * factor]) for start in starts}
        counts = Counter(runs.values())
        starts = [start for start in starts if counts[runs[start]] > 1]  # of longer runs none begins elsewhere
        if not starts:
            return ""
        share = _covered(words, starts, n * factor)
        if n in top:
            most = max(counts.values())
            several = {run for run, count in counts.items() if count == most}
            first_starts = {run: start for start, run in reversed(runs.items()) if run in several}
            lengths = {run: len("".join(words[at : at + n * factor])) for run, at in first_starts.items()}
            best = min(several, key=lambda run: (-lengths[run], run))
            of_one = _covered(words, [start for start in starts if runs[start] == best], n * factor)
            if of_one > top[n]:
                return f"one {n}-gram too often: {of_one:.3g} of the characters"
        else:
            if not config.count_first:
                seen: set[tuple[int, ...]] = set()
                again = [start for start in starts if runs[start] in seen or seen.add(runs[start])]
                share = _covered(words, again, n * factor)
            if share > duplicate[n]:
                return f"duplicate {n}-grams: {share:.3g} of the characters"
    return ""


def _covered(words: list[str], starts: list[int], n: int) -> float:
    """Of the characters, those in one of the runs of n words that start there."""
    inside = {place for start in starts for place in range(start, start + n)}
    return sum(len(words[place]) for place in inside) / sum(map(len, words))


FILTERS = {
    "length": length,
    "ratios": ratios,
    "gopher_quality": gopher_quality,
    "fineweb": fineweb,
    "gopher_repetition": gopher_repetition,
}


def outcome(config: CleanConfig, text: str) -> tuple[str, str]:
    """The filter that drops the text and its reason, "" and "" where none does."""
    for name, fault in FILTERS.items():
        section = getattr(config, name)
        if section is not None and (reason := fault(section, text)):
            return name, reason
    return "", ""
