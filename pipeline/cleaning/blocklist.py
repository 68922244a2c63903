"""Documents from listed domains or with listed words.

Lists stand in the config and in files of the user's: UTF-8, one entry a line, # begins a comment. A domain blocks all
below it. A word or phrase is found whole, in any case (C4 drops pages with such words: Raffel et al. 2020, section
2.2); one with a letter of a script without spaces also within a longer one. Price: one look-up a different word, so
20 MB/s however long the list; phrases and words of scripts without spaces cost more: docs/cleaning.md.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from operator import add
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.base.cleaning_sections import BlocklistConfig
from pipeline.base.errors import UserError
from pipeline.cleaning.parts import Parts
from pipeline.cleaning.words import UNSPACED, has_unspaced

_WORD = re.compile(rf"[^\W{UNSPACED}]+")
_MANY = 300
"""So many phrases are found sooner by their first characters than one by one."""
_SCHEME = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_DOMAIN = re.compile(r"[\w-]+(?:\.[\w-]+)*")


class Blocklist:
    """The filter. UserError for a file that is missing or holds what is no domain."""

    def __init__(self, config: BlocklistConfig) -> None:
        self._domains = _domains(config.domains, config.domains_file, _stamp(config.domains_file))
        self._words, self._phrases = _words(config.words, config.words_file, _stamp(config.words_file))
        self._heads: defaultdict[str, list[str]] = defaultdict(list)
        for phrase in self._phrases:
            self._heads[phrase[:2]].append(phrase)

    def domain_fault(self, url: str) -> str:
        """Why a document from there is dropped, "" where it is not."""
        if not self._domains or not url:
            return ""
        labels = _host(url).split(".")
        for first in range(len(labels)):
            if (domain := ".".join(labels[first:])) in self._domains:
                return f"domain: {domain}"
        return ""

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped for its words, "" where it is kept."""
        if not self._words and not self._phrases:
            return ""
        found: list[str] = []
        if self._words:
            vocabulary = unicodedata.normalize("NFC", " ".join(parts.vocabulary).casefold())
            found = sorted(self._words.intersection(_WORD.findall(vocabulary)))
        if not found and self._phrases:
            text = _folded(parts.text)
            found = [phrase for phrase in self._possible(text) if _stands_whole(phrase, text)]
        return f"word: {found[0]}" if found else ""

    def _possible(self, text: str) -> list[str]:
        """The phrases that can occur there, in their order: of many, those whose first two characters do."""
        if len(self._phrases) < _MANY:
            return self._phrases
        pairs = set(map(add, text, text[1:])) | set(text)
        return sorted(phrase for head in self._heads.keys() & pairs for phrase in self._heads[head])


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def _stands_whole(phrase: str, text: str) -> bool:
    """Whether it occurs there other than as a part of a longer word."""
    start = text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        joined_before = _in_word(phrase[0]) and _in_word(text[start - 1 : start])
        if not joined_before and not (_in_word(phrase[-1]) and _in_word(text[end : end + 1])):
            return True
        start = text.find(phrase, start + 1)
    return False


def _in_word(character: str) -> bool:
    """Whether it goes on a word: no letter of a script without spaces does."""
    if not character or has_unspaced(character):
        return False
    return character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"


def _host(url: str) -> str:
    """The host of a URL with or without scheme, "" where it has none; international names in their ASCII form."""
    url = url.strip()
    try:
        host = urlsplit(url if _SCHEME.match(url) else f"//{url}").hostname or ""
    except ValueError:
        return ""
    return _ascii(host.rstrip("."))


def _ascii(domain: str) -> str:
    try:
        return domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


def _domain(entry: str, where: str) -> str:
    domain = entry.lower().removeprefix("*.").strip(".")
    if _DOMAIN.fullmatch(domain) is None:
        raise UserError(f"{where}: {entry!r} is no domain; write it without scheme and path, such as example.com.")
    return _ascii(domain)


Stamp = tuple[int, int] | None
"""Size and time of a list's last change."""


def _stamp(file: str | None) -> Stamp:
    """Of a file that has changed it is another; None where there is none."""
    try:
        status = Path(file).stat() if file else None
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status else None


# A worker makes a cleaner for each piece of the input: a list of a million entries is read once.
@lru_cache(maxsize=8)
def _domains(listed: tuple[str, ...], file: str | None, _: Stamp) -> frozenset[str]:
    return frozenset(_domain(entry, where) for entry, where in _entries(listed, file, "domains"))


@lru_cache(maxsize=8)
def _words(listed: tuple[str, ...], file: str | None, _: Stamp) -> tuple[frozenset[str], list[str]]:
    """Words that are looked up, and phrases that are searched for."""
    words = {_folded(entry) for entry, _ in _entries(listed, file, "words")} - {""}
    single = frozenset(filter(_WORD.fullmatch, words))
    return single, sorted(words - single)


def _entries(listed: Iterable[str], file: str | None, name: str) -> Iterator[tuple[str, str]]:
    """Entries of the config and of its file, and where each stands."""
    yield from ((entry, f"clean.blocklist.{name}") for entry in listed)
    if file is None:
        return
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"clean.blocklist.{name}_file: {file} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"clean.blocklist.{name}_file: {file} cannot be read as UTF-8 text: {error}.") from None
    for number, line in enumerate(text.splitlines(), 1):
        if entry := re.sub(r"(?:^|\s)#.*", "", line).strip():
            yield entry, f"{file}:{number}"
