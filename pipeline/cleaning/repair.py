"""Broken characters mended: text decoded in the wrong encoding, HTML entities, control characters, Unicode form.

In this order, since mojibake holds control characters and entities can stand for them. Mojibake is ftfy's matter
(Speer 2019), a line at a time, and only lines are shown to it in which a character that a UTF-8 lead byte becomes is
followed by one that a continuation byte becomes; its other changes (quotes, ligatures, widths) are not made.
An escaped tag, &lt;b&gt;, stays as it is: it is a text about markup, and unescaped it would be markup to whoever reads
the text next. Price: 30 MB/s; lines with mojibake 2 MB/s.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from html.entities import html5

from pipeline.base.cleaning_sections import RepairConfig

_ROUNDS = 3
"""Of unescaping: &amp;amp;lt; is as far as it goes."""
_LESS, _GREATER = r"&(?:lt|LT|#0{0,5}60|#[xX]0{0,5}3[cC]);", r"&(?:gt|GT|#0{0,5}62|#[xX]0{0,5}3[eE]);"
_WITHIN = rf"(?:(?!{_LESS}|{_GREATER})[^<>\n])"
_NAME = "[A-Za-z][A-Za-z0-9:-]{0,30}"
_TAG = (
    rf"{_LESS}(?:/?{_NAME}\s?/?|{_NAME}\s(?!=){_WITHIN}{{1,100}}?={_WITHIN}{{0,200}}|[!?]{_WITHIN}{{1,200}}){_GREATER}"
)
_ENTITY = re.compile(
    rf"(?P<tag>{_TAG})|&(?:#[0-9]{{1,7}}|#[xX][0-9A-Fa-f]{{1,6}}|(?P<name>[A-Za-z][A-Za-z0-9]{{1,31}}));"
)
_TERMINAL_COLOURS = re.compile(r"\x1b\[[0-?]*+[ -/]*+[@-~]")
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")

# Scripts in which U+200C, U+200D (joiners) and U+180E change what is read: Arabic to Khmer and Mongolian, and emoji.
_JOINING = (
    "\u0600-\u109f\u1780-\u18af\u1a20-\u1aaf\u1b00-\u1bff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc"
    "\u2190-\u2bff\ufe0f\U00010a00-\U00011fff\U0001e900-\U0001e95f\U0001f000-\U0001faff"
)
_CONTROLS = "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
_INVISIBLE = "\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffc\ufffe\uffff"
"""Soft hyphen, zero-width space, directions, invisible operators, annotations, byte order mark, no characters."""
_JOINERS, _TAGS = "\u180e\u200c\u200d", "\U000e0001-\U000e007f"
_FLAG = "(?<![\U0001f3f4\U000e0020-\U000e007f])"
"""Tag characters make flags of U+1F3F4, such as Scotland's."""
_JUNK = re.compile(f"[{_CONTROLS}{_INVISIBLE}]|(?<![{_JOINING}])[{_JOINERS}](?![{_JOINING}])|{_FLAG}[{_TAGS}]+")
_MAYBE_JUNK = re.compile(f"[{_CONTROLS}\x0b-\x0d\x85\u2028\u2029{_INVISIBLE}{_JOINERS}{_TAGS}]")


class Repair:
    """The filter. It drops only documents of which nothing is left."""

    def __init__(self, config: RepairConfig) -> None:
        self._config = config
        self._demojibake = _Mojibake() if config.mojibake else None

    def mend(self, text: str, edits: Counter[str]) -> tuple[str, str]:
        """The text and "", or "" and why the document is dropped; counts it in edits where it changed."""
        mended = self._demojibake(text) if self._demojibake else text
        if self._config.entities and "&" in mended:
            mended = unescape(mended)
        if self._config.controls:
            mended = without_controls(mended)
        if self._config.normal_form is not None:
            mended = unicodedata.normalize(self._config.normal_form, mended)
        if mended != text:
            edits["repair"] += 1
        return (mended, "") if mended.strip() else ("", "nothing left")


def unescape(text: str) -> str:
    """HTML entities that end in a semicolon as characters, also escaped twice; escaped tags stay."""
    for _ in range(_ROUNDS):
        plain = _ENTITY.sub(_character, text)
        if plain == text:
            break
        text = plain
    return text


def _character(match: re.Match[str]) -> str:
    if match["tag"]:
        return match[0]
    return html5.get(f"{match['name']};", match[0]) if match["name"] else html.unescape(match[0])


def without_controls(text: str) -> str:
    """Line ends as LF; without terminal colours, control characters and invisible format characters."""
    if _MAYBE_JUNK.search(text) is None:
        return text
    if "\x1b" in text:
        text = _TERMINAL_COLOURS.sub("", text)
    return _JUNK.sub("", _LINE_END.sub("\n", text))


class _Mojibake:
    """ftfy's fix_encoding, for the lines that can need it."""

    def __init__(self) -> None:
        import ftfy  # late: compiles its tables
        from ftfy.chardata import CHARMAP_ENCODINGS

        pairs = []
        for encoding in CHARMAP_ENCODINGS:
            leads, follows = _decoded(range(0xC2, 0xF5), encoding), _decoded(range(0x80, 0xC0), encoding)
            pairs.append(f"[{leads}][{follows}\x1a\ufffd]")
            if encoding in _LATIN:  # U+00A0 that became a space, and characters that became question marks
                pairs.append(f"[{_decoded(_BEFORE_SPACE, encoding)}][ ?]")
        self._suspect = re.compile("|".join(["[\x80-\x84\x86-\x9f]", *pairs]))
        self._fix: Callable[[str], str] = ftfy.fix_encoding

    def __call__(self, text: str) -> str:
        if text.isascii():
            return text
        return "\n".join(
            self._fix(line) if not line.isascii() and self._suspect.search(line) else line for line in text.split("\n")
        )


_LATIN = {"latin-1", "sloppy-windows-1252", "sloppy-windows-1250", "sloppy-windows-1254", "sloppy-windows-1257"}
_BEFORE_SPACE = (0xC2, 0xC3, 0xC5, 0xCE, 0xD0, 0xD9)
"""Lead bytes after which ftfy takes a space for U+00A0."""


def _decoded(points: Iterable[int], encoding: str) -> str:
    return re.escape(bytes(points).decode(encoding))
