"""E-mail and IP addresses as marks.

An e-mail address is looked for around each @: letters of another script beside a Latin address, as in Chinese text
without spaces, are not part of it. An IP address is what Python's ipaddress takes for one. Price: over 100 MB/s.
"""

import ipaddress
import re

_LATIN_LOCAL = re.compile(r"[A-Za-z0-9\u00c0-\u024f_.+%'-]{1,65}+")
_ANY_LOCAL = re.compile(r"[\w.+%'-]{1,65}+")
_LONGEST_LOCAL = 64
"""RFC 5321, section 4.5.3.1.1."""
_LATIN_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,59})"
    r"(?![A-Za-z0-9\u00c0-\u024f])"
)
_ANY_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}")
_FILES = {"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html", "htm", "php", "json", "xml", "pdf"}
"""Endings of file names such as logo@2x.png; no top-level domains."""


def mark_emails(text: str) -> tuple[str, int]:
    """The text with <EMAIL> for each address, and their number."""
    at = text.find("@")
    if at < 0:
        return text, 0
    kept: list[str] = []
    done = 0
    while at >= 0:
        start, end = _email_around(text, at, done)
        if end:
            kept.append(text[done:start])
            done = end
        at = text.find("@", max(end, at + 1))
    return "<EMAIL>".join([*kept, text[done:]]), len(kept)


def _email_around(text: str, at: int, begin: int) -> tuple[int, int]:
    """First character and end of the address whose @ stands there, not before begin; (0, 0) where there is none."""
    before = text[max(begin, at - _LONGEST_LOCAL - 1) : at][::-1]
    pattern = _LATIN_LOCAL if before and before[0] < "\u0250" else _ANY_LOCAL
    local = pattern.match(before)
    if local is None or len(local[0]) > _LONGEST_LOCAL or before[0] in ".'":
        return 0, 0
    start = at - len(local[0].rstrip(".+%'-"))
    domain = _LATIN_DOMAIN.match(text, at + 1) or _ANY_DOMAIN.match(text, at + 1)
    if domain is None or start == at or domain[0].rpartition(".")[2].lower() in _FILES:
        return 0, 0
    return start, domain.end()


_MAYBE_V4 = re.compile(r"\.[0-9]{1,3}\.[0-9]")
_V4 = re.compile(r"(?<![A-Za-z0-9_.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![A-Za-z0-9_]|\.[0-9]|-[A-Za-z])")
_NO_ADDRESS = re.compile(
    r"(?:\b(?:version|ver|v|release|build|firmware|sections?|chapter|clause|figure|table)\.?|§|版本|第)[ :：/]{0,2}\Z",
    re.IGNORECASE,
)
"""Before four numbers that count something else."""
_SMALL = re.compile(r"[0-9](?:\.[0-9]){3}")
_NAME = re.compile(
    r"(?<![A-Za-z])(?!Address|Client|From|Gateway|Host|Ping|Router|Server)[A-Z][A-Za-z+-]{2,}[ ]\Z",
)
"""A name before four digits: OpenSSL 1.1.1.1 is a version."""
_MAYBE_V6 = re.compile(":[0-9A-Fa-f]{0,4}:")
_V6 = re.compile(
    r"(?<![A-Za-z0-9_:.])(?:[0-9A-Fa-f]{3,4}:|(?:::(?:[Ff]{4}:(?:0{1,4}:)?)?|64:[Ff]{2}9[Bb]::)(?=[0-9]{1,3}\.))"
    r"[0-9A-Fa-f:.]{1,42}+(?![A-Za-z0-9_])"
)
"""With a first group of three or four, or version 4 within version 6 (RFC 4291, RFC 6052). 1::2 is rather a slice."""


def mark_ips(text: str) -> tuple[str, int]:
    """The text with <IP> for each address of a host, and their number; those of no host (loopback) stay."""
    found = 0

    def mark(match: re.Match[str]) -> str:
        nonlocal found
        shown = match[0].rstrip(".") if match[0].endswith(("::", "::.")) else match[0].rstrip(":.")
        before = match.string[max(0, match.start() - 20) : match.start()]
        if not _names_host(shown) or _NO_ADDRESS.search(before) or (_SMALL.fullmatch(shown) and _NAME.search(before)):
            return match[0]
        found += 1
        return f"<IP>{match[0][len(shown) :]}"

    if _MAYBE_V6.search(text):  # before version 4, which the end of an address may look like
        text = _V6.sub(mark, text)
    if _MAYBE_V4.search(text):
        text = _V4.sub(mark, text)
    return text, found


def _names_host(shown: str) -> bool:
    try:
        address = ipaddress.ip_address(shown)
    except ValueError:
        return False
    if address.version == 4:
        return 0 < address.packed[0] < 255 and not address.is_loopback  # 255.255.0.0 is a mask
    return any(map(str.isdigit, shown))  # dead::beef is rather a name in a program
