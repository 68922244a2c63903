"""Card and phone numbers as marks.

A card number has an issuer's first digits and length, and the right check digit (ISO/IEC 7812-1, Luhn): of other
numbers of 16 digits about one in fifty looks so. A phone number is believed where its form is little else's: with + and
country code, North America's 3-3-4, East Asia's forms, or behind a word such as Tel. Price: over 100 MB/s.
"""

import re
from collections.abc import Iterator

_GAP = r" .\-/\u00a0\u2010\u2011\u2013"
"""What may stand between the digits of a phone number."""
_RUN = re.compile(rf"[0-9][0-9(){_GAP}]{{5,}}+")
"""A digit, then digits and what may stand between them: every number is looked for in one of these."""

_BEGINS = (
    r"(?<![A-Za-z0-9_+-])(?<![0-9]\.)(?<!\s\.)(?<!^\.)(?<!\b0,)"
    r"(?!(?:(?<=(?<![0-9])[0-9],)|(?<=(?<![0-9])[0-9]{2},)|(?<=(?<![0-9])[0-9]{3},))[0-9]{1,3}(?![0-9]))"
)
"""Where a number may begin: not behind the point of a decimal, "0," or the comma of thousands (1,415)."""
_CARD = re.compile(
    _BEGINS + r"(?:[0-9]{13,19}|[0-9]{4}([ \u00a0-])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?"
    r"|[0-9]{4}([ \u00a0-])[0-9]{6}\2[0-9]{4,5})(?![A-Za-z0-9_])"
)
_ISSUED = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}"  # Diners Club
    r"|6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12}"  # Discover
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12}"  # JCB
    r"|62[0-9]{14,17}"  # UnionPay
    r"|(?:50[0-9]{2}|6304|67[0-9]{2})[0-9]{12,15}"  # Maestro
)


_NATIONAL = re.compile(
    # North America: brackets around the area, or the same dash or dot twice.
    _BEGINS + r"(?:(?:1[ .-])?"
    r"(?:\([2-9][0-9]{2}\)[ -]?[0-9]{3}[ .-]|[2-9][0-9]{2}([.-])[0-9]{3}\1)[0-9]{4}(?![A-Za-z0-9_-])"
    # East Asia: three groups after a 0, with dashes.
    r"|0[0-9]{1,3}-[0-9]{3,4}-[0-9]{4}(?![A-Za-z0-9_-])"
    # China: mobile; area and number.
    r"|1[3-9][0-9](?:[0-9]{8}|([ -])[0-9]{4}\2[0-9]{4})(?![A-Za-z0-9_-])"
    r"|(?:0[1-9][0-9]{1,2}[ -]|\(0[1-9][0-9]{1,2}\) ?)[2-8][0-9]{6,7}(?![A-Za-z0-9_-]))"
)
_WORD_BEFORE = re.compile(
    r"(?:\b(?:tel|tél|telephone|telefono?|teléfono|téléphone|phone|fax|mobile|mob|whatsapp|hotline)"
    r"|电话|電話|手机|手機|传真|傳真|热线|熱線)(?:[ ]?(?:number|no|nr|号码|號碼))?[ .:：]{0,3}\Z",
    re.IGNORECASE,
)
_YEARS = re.compile(r"(?:19|20)[0-9]{2}[ \u2010\u2011\u2013-]{1,3}(?:19|20)[0-9]{2}(?![0-9])")
_COORDINATES = re.compile(r"\+[0-9]{1,3}\.[0-9]+[ ,]+[+-][0-9]{1,3}\.[0-9]")
_DIGITS = re.compile("[0-9]+")
_LONGEST = 60
"""Characters of a number that are looked at."""
_MOST_DIGITS, _MOST_DIGITS_NORTH_AMERICA = 15, 11
"""Country code included (ITU-T E.164)."""


def mark_cards(text: str) -> tuple[str, int]:
    """The text with <CARD> for each number, whole or in the groups that a card shows, and their number."""
    return _replaced(text, _cards(text), "<CARD>")


def mark_phones(text: str) -> tuple[str, int]:
    """The text with <PHONE> for each number, and their number."""
    return _replaced(text, _phones(text), "<PHONE>")


def _replaced(text: str, spans: Iterator[tuple[int, int]], mark: str) -> tuple[str, int]:
    kept: list[str] = []
    done = 0
    for start, end in spans:
        kept.append(text[done:start])
        done = end
    return (mark.join([*kept, text[done:]]), len(kept)) if kept else (text, 0)


def _runs(text: str, shortest: int) -> Iterator[tuple[int, int]]:
    """Start and end of the runs of so many characters, with a + and a bracket before the first digit."""
    for run in _RUN.finditer(text):
        start, end = run.span()
        if end - start >= shortest:
            start -= text[start - 1 : start] == "("
            start -= text[start - 1 : start] == "+" and not text[max(0, start - 2) : start - 1].isalnum()
            yield start, end


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for start, end in _runs(text, 13):
        for match in _CARD.finditer(text, start, end + 1):
            # In 4-4-4-4-3 the last three may be the code beside the number.
            for shown in (match[0],) if match[0].isdigit() else (match[0], match[0][:19]):
                if is_card_number("".join(_DIGITS.findall(shown))):
                    yield match.start(), match.start() + len(shown)
                    break


def is_card_number(digits: str) -> bool:
    """Whether an issuer's numbers begin so and are that long, and the check digit is right."""
    if _ISSUED.fullmatch(digits) is None:
        return False
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(sum(divmod(2 * value, 10)) for value in values[1::2])) % 10 == 0


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for start, end in _runs(text, 6):
        length = _international(text, start, end) or _announced(text, start, end)
        if length:
            number = text[start : start + length]
            opened = text[start - 1 : start] == "(" and ")" in number and "(" not in number  # (+86) 138 0013 8000
            yield start - opened, start + length
            start += length
        if end - start >= 10:
            yield from _national(text, start, end)


def _national(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Numbers in a run; behind a slash only the second of two, as /13800138000.html is a page."""
    done = -1
    while match := _NATIONAL.search(text, start, end + 1):
        start = match.start() + 1
        if text[match.start() - 1 : match.start()] != "/" or match.start() - 1 == done:
            yield match.span()
            start = done = match.end()


def _international(text: str, start: int, end: int) -> int:
    """Length of the number with + and country code at the run's beginning, 0 where there is none."""
    if text[start] != "+" or text[start + 1] == "0" or _COORDINATES.match(text, start):
        return 0
    run = text[start : min(end, start + _LONGEST)]
    length = _whole_groups(run, _MOST_DIGITS_NORTH_AMERICA if run[1] == "1" else _MOST_DIGITS)
    groups = _DIGITS.findall(run[:length])
    digits = sum(map(len, groups))
    if digits < (8 if len(groups) > 1 else 10):
        return 0
    gaps = set(run[1:length]) - set("0123456789")
    amount = (gaps == {"."} and len(groups) < 3) or (gaps <= {" ", "\u00a0"} and digits < 10 and _are_thousands(groups))
    return 0 if amount else length


def _announced(text: str, start: int, end: int) -> int:
    """Length of the number that a word such as Tel. announces, 0 where none does."""
    if _WORD_BEFORE.search(text[max(0, start - 30) : start]) is None or _YEARS.match(text, start):
        return 0
    run = text[start : min(end, start + _LONGEST)]
    length = _whole_groups(run, _MOST_DIGITS)
    groups = _DIGITS.findall(run[:length])
    amount = groups[-1:] == ["000"] and _are_thousands(groups)
    return length if sum(map(len, groups)) >= 6 and not amount else 0


def _whole_groups(run: str, most: int) -> int:
    """Characters of as many groups of digits, from the first, as hold at most that many digits together."""
    length = digits = 0
    for group in _DIGITS.finditer(run):
        digits += len(group[0])
        if digits > most:
            break
        length = group.end()
    return length


def _are_thousands(groups: list[str]) -> bool:
    return len(groups) > 1 and len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])
