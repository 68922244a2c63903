"""Wikitext to plain text: what the reader of an article sees as prose, in time that grows with its length alone.

Links leave their text, headings and list items a line each. Left out are templates, tables, references, files,
categories, formulas, blocks of code and comments, and a heading with nothing under it. Price: what templates print
(units, foreign words, dates) is missing. mwparserfromhell keeps captions, tables and references, takes nine times as
long, and on marks that are not closed the square of a page's length.
"""

import html
import re
from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import NamedTuple

_NO_PROSE = (
    "ce chem gallery graph hiero imagemap indicator inputbox mapframe maplink math ref references score script section "
    "source style syntaxhighlight table templatedata templatestyles timeline"
)
DROPPED = frozenset(_NO_PROSE.split())
"""Elements whose content is left out."""
SILENT = frozenset(("file", "image", "media", "category"))
"""Namespaces whose links show no text; a wiki has names of its own beside them."""
DEEPEST_LINK = 16
"""Links within each other, as in the caption of a picture; what is deeper is text."""

_TAG = re.compile(r"<!--|<(/?)([a-z][a-z0-9]*+)([^<>]*+)>", re.IGNORECASE)
_NOWIKI = str.maketrans({mark: f"&#{ord(mark)};" for mark in "[]{}'|<>=*#:;_-"})
_BRACES = re.compile(r"\{\{++|\}\}++|^[ \t:*#]*+\{\||^[ \t]*+\|\}(?!\})", re.MULTILINE)
_VARIANT = re.compile(r"-\{([^{}]*+)\}-")
_VARIANT_NAME = re.compile(r"[ \t]*[a-z]{2,4}(?:-[a-z]+)*[ \t]*:", re.IGNORECASE)
_LINK = re.compile(r"\[\[|\]\]")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*")
_EXTERNAL = re.compile(
    r"\[(?:[a-z][a-z+.-]{0,20}:)?(?://|(?<=mailto:))[^\s\[\]]*+[ \t]*+([^\[\]\n]*+)\]", re.IGNORECASE
)
_QUOTES = re.compile(r"''++")
_SWITCH = re.compile(r"__[A-Z]{3,30}__")
_BREAK = re.compile(r"</?(?:br|hr|p|div|li|ul|ol|dl|dt|dd|blockquote|center|poem|h[1-6])\b[^<>]*+>", re.IGNORECASE)
_ELEMENT = re.compile(r"</?[a-zA-Z][^<>]*+>")
_SPACES = re.compile(r"[ \t\xa0]+")
_EMPTY_BRACKETS = re.compile(r" ?\([ ,;:/–-]*+\)")


def plain_text(wikitext: str, silent: Collection[str] = SILENT) -> str:
    """The text of a page, "" where it has none.

    silent: the namespaces, in small letters, whose links show nothing.
    """
    text = _without_elements(wikitext)
    text = _without_regions(text, _brace_regions(text))
    text = _VARIANT.sub(lambda found: _variant(found[1]), text)
    text = _EXTERNAL.sub(r"\1", _with_link_texts(text, silent))
    text = _QUOTES.sub(lambda found: _apostrophes(len(found[0])), _SWITCH.sub("", text))
    return "\n".join(_lines(_ELEMENT.sub("", _BREAK.sub("\n", text)))).strip("\n")


def _without_elements(text: str) -> str:
    """Without comments and elements that hold no prose; what <nowiki> holds is written so that no step touches it."""
    ends: dict[str, list[tuple[int, int]]] = {}
    for tag in _TAG.finditer(text):
        if tag[1]:
            ends.setdefault(tag[2].lower(), []).append(tag.span())
    parts = []
    at = 0
    for tag in _TAG.finditer(text):
        if tag.start() < at:
            continue
        name = tag[2].lower() if tag[2] else ""
        if name and name not in DROPPED and name != "nowiki":
            continue
        parts.append(text[at : tag.start()])
        at = tag.end()
        if not name:
            end = text.find("-->", at)
            at = end + 3 if end >= 0 else len(text)
        elif not tag[1] and not tag[3].endswith("/"):
            places = ends.get(name, [])
            closing = bisect_left(places, (at, 0))
            if closing < len(places):
                start, stop = places[closing]
                if name == "nowiki":
                    parts.append(text[at:start].translate(_NOWIKI))
                at = stop
    parts.append(text[at:])
    return "".join(parts)


class _Open(NamedTuple):
    table: bool
    start: int
    braces: int


def _brace_regions(text: str) -> Iterator[tuple[int, int]]:
    """Places (start, stop) of templates and tables that are closed; the inner ones come before those around them."""
    stack: list[_Open] = []
    templates = 0
    for token in _BRACES.finditer(text):
        mark = token[0]
        if mark.endswith("{{"):
            stack.append(_Open(False, token.start(), len(mark)))
            templates += 1
        elif mark.endswith("{|"):
            stack.append(_Open(True, token.start(), 0))
        elif mark.endswith("|}"):
            if stack and stack[-1].table:
                yield stack.pop().start, token.end()
        else:
            left = len(mark)
            while left >= 2 and templates:
                while stack[-1].table:  # a table that is not closed ends with the template around it
                    stack.pop()
                opened = stack.pop()
                if opened.braces - left >= 2:
                    stack.append(opened._replace(braces=opened.braces - left))
                    break
                templates -= 1
                left -= min(left, opened.braces)
                yield opened.start, token.end() - left


def _without_regions(text: str, regions: Iterator[tuple[int, int]]) -> str:
    parts = []
    at = 0
    for start, stop in sorted(regions):
        if start >= at:
            parts.append(text[at:start])
        at = max(at, stop)
    parts.append(text[at:])
    return "".join(parts)


def _variant(content: str) -> str:
    """What Chinese wikis show for -{...}-: its text, or the first of its variants."""
    flags, bar, rest = content.partition("|")
    if bar and flags.strip() not in ("A", "R", ""):
        return ""
    first = (rest if bar else content).partition(";")[0]
    return _VARIANT_NAME.sub("", first, count=1)


def _with_link_texts(text: str, silent: Collection[str]) -> str:
    open_links: list[list[str]] = [[]]
    at = 0
    for token in _LINK.finditer(text):
        open_links[-1].append(text[at : token.start()])
        at = token.end()
        if token[0] == "[[":
            if len(open_links) <= DEEPEST_LINK:
                open_links.append([])
        elif len(open_links) > 1:
            content = "".join(open_links.pop())
            open_links[-1].append(_link_text(content, silent))
    open_links[-1].append(text[at:])
    return "".join(part for parts in open_links for part in parts)


def _link_text(content: str, silent: Collection[str]) -> str:
    target, bar, label = content.partition("|")
    target = target.strip()
    prefix, colon, _ = target.partition(":")
    prefix = prefix.strip().lower()
    if colon and (prefix in silent or _LANGUAGE.fullmatch(prefix)):
        return ""
    if label.strip():
        return label
    target = target.removeprefix(":")
    return target.partition(":")[2].partition("(")[0].strip() or target if bar else target


def _apostrophes(count: int) -> str:
    """What is left of so many: two are italics, three bold, five both, and others stand for themselves."""
    return "'" if count == 4 else "'" * max(0, count - 5)


def _lines(text: str) -> list[str]:
    """The lines, each without its marks; of headings those with something under them, each after a blank line."""
    kept: list[str] = []  # the last line first: whether a heading is kept depends on what follows
    below, nothing = 0, True  # level of the heading that follows, 0 for text
    for raw in reversed(text.split("\n")):
        level, line = _line(raw)
        if level:
            if line and not nothing and (below == 0 or level < below):
                kept += [line, ""]
                below = level
        elif line:
            kept.append(line)
            below, nothing = 0, False
        elif kept and kept[-1]:
            kept.append("")
    return kept[::-1]


def _line(raw: str) -> tuple[int, str]:
    """Level of a heading, or 0, and the text of a line."""
    line, level = raw.strip(), 0
    if line.startswith(("|", "{|")):  # of a table that is not closed
        return 0, ""
    if line.startswith("=") and line.endswith("="):
        level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6, (len(line) - 1) // 2)
        line = line[level : len(line) - level]
    elif line.startswith("----"):
        line = line.lstrip("-")
    else:
        line = line.lstrip("*#:;")
    line = _SPACES.sub(" ", html.unescape(line))
    line = _EMPTY_BRACKETS.sub("", line).replace(" ,", ",").replace("( ", "(").replace(" )", ")")
    return level, line.strip()
