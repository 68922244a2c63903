"""Prose of a documentation string: docstring -> paragraphs of plain English, one line each.

Promise: what is left reads as sentences; code, doctests, tables, headings, parameter headers and markup are gone, by
the rules below and no others. Price: some true sentences that are full of identifiers are lost too (about half of all
characters go).

Rules, in this order:
1. A doctest (from `>>>` to the next blank line), a fenced block and the block under a `.. directive::` are dropped.
2. A line of rules or table bars, and a heading (a line with `---`, `===` or `~~~` under it), is dropped.
3. The rest is cut into paragraphs at blank lines, at a change of indentation, at bullets, and at parameter headers
   (`name (type):`, `name:`, `:param name:`), which are taken off.
4. Markup is taken off: roles (``:class:`X` ``), backticks, emphasis, links.
5. A paragraph is kept when it has at least MIN_WORDS words, at least WORD_SHARE of them plain words, and at least
   FUNCTION_SHARE function words ("the", "of", "is", ...): that is what tells English from lists of names.
"""

import re
from collections.abc import Iterator

MIN_WORDS = 5
WORD_SHARE = 0.75
FUNCTION_SHARE = 0.15
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a an and any are as at be been but by can do does each else every for from has have if in into is it its may
        more must no not of on one only or other same should so some such than that the their then there these they
        this those to two under until use used uses using was we were what when where which while will with within
        without you your
        """,
    )
)

_FENCE = re.compile(r"^\s*(```|~~~)")
_DIRECTIVE = re.compile(r"^\s*\.\. ")
_RULE = re.compile(r"^[\s=\-~^*+#_.|:'`\"<>]+$")
_BULLET = re.compile(r"^(?:[-*+•]|\(?\d{1,2}[.)]|\[\d+\])\s+")
_PARAMETER = re.compile(r"^(?::\w+(?: [\w., *]+)?:|[*`]*[A-Za-z_][\w.]*`*(?: ?\([^)]*\))?:)(?:\s+|$)")
_ROLE = re.compile(r":(?:\w+:)?\w+:`~?([^`<]*?)(?:\s*<[^`]*>)?`")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})([^\s*](?:[^*]*[^\s*])?)\1(?![\w*])")
_WORD = re.compile(r"^[(\"']*[A-Za-z]+(?:['-][A-Za-z]+)*[)\"']*[.,;:!?]*[)\"']*$")


def paragraphs(docstring: str) -> list[str]:
    """The paragraphs of prose in one (dedented) documentation string, in order."""
    cleaned = (strip_markup(" ".join(lines)) for lines in _blocks(docstring))
    return [text for text in cleaned if is_prose(text)]


def is_prose(text: str) -> bool:
    """Whether a one-line paragraph reads as English: rule 5."""
    words = text.split()
    if len(words) < MIN_WORDS:
        return False
    plain = sum(1 for word in words if _WORD.match(word))
    function = sum(1 for word in words if word.lower().strip("().,;:!?\"'") in FUNCTION_WORDS)
    return plain >= WORD_SHARE * len(words) and function >= FUNCTION_SHARE * len(words)


def strip_markup(text: str) -> str:
    """Text without reStructuredText and Markdown signs: rule 4. Whitespace becomes single spaces."""
    text = _ROLE.sub(r"\1", text)
    text = _LINK.sub(r"\1", text)
    text = text.replace("`", "")
    text = _EMPHASIS.sub(r"\2", text)
    return " ".join(text.split())


def _blocks(docstring: str) -> Iterator[list[str]]:
    """Rules 1 to 3: groups of lines that belong to one paragraph."""
    group: list[str] = []
    previous_indent = 0
    for line in _text_lines(docstring):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        header = _BULLET.match(text) or _PARAMETER.match(text)
        if group and (not text or header or indent != previous_indent):
            yield group
            group = []
        if text:
            group.append(text[header.end() :] if header else text)
            previous_indent = _hanging_indent(indent, header)
    if group:
        yield group


def _hanging_indent(indent: int, header: re.Match[str] | None) -> int:
    """Where a paragraph's next line is expected: under a bullet's text, four further under a parameter's name."""
    if header is None:
        return indent
    return indent + (len(header.group()) if _BULLET.match(header.group()) else 4)


def _text_lines(docstring: str) -> Iterator[str]:
    """Rules 1 and 2: the lines that are neither code nor table nor heading; a dropped line leaves a blank one."""
    lines = docstring.expandtabs().splitlines()
    fenced = doctest = False
    directive_indent: int | None = None
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        text = line.strip()
        if _FENCE.match(line):
            fenced = not fenced
            yield ""
            continue
        if directive_indent is not None and text and len(line) - len(line.lstrip()) <= directive_indent:
            directive_indent = None
        if _DIRECTIVE.match(line):
            directive_indent = len(line) - len(line.lstrip())
        doctest = bool(text) and (doctest or text.startswith((">>>", "... ")))
        heading = bool(following.strip()) and len(following.strip()) >= 3 and _RULE.match(following) and text
        dropped = fenced or doctest or directive_indent is not None or heading or "|" in text or _RULE.match(line)
        yield "" if dropped else line
