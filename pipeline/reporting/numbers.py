"""Counts, shares and bars as a reader sees them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_PREFIXES = ("", "k", "M", "G", "T", "P")


class Bar(NamedTuple):
    """A row of a bar chart. width: per cent of the longest bar; share: of the total, where there is one."""

    label: str
    value: str
    width: float
    share: str


def count(value: int) -> str:
    """12,345."""
    return f"{value:,}"


def size(value: float) -> str:
    """Bytes: 12.3 MB, by powers of 1,000."""
    for prefix in _PREFIXES:
        if value < 1000 or prefix == _PREFIXES[-1]:
            break
        value /= 1000
    return f"{value:,.0f} bytes" if not prefix else f"{value:.3g} {prefix}B"


def percent(part: float, whole: float) -> str:
    """The share in per cent with two digits at least: 12.3 %, 1.0 %, 0.034 %; 0 % and 100 % are none or all of it."""
    share = 100 * part / whole if whole else 0.0
    if share == 0:
        return "0 %"
    if share < 0.0001:
        return "under 0.0001 %"
    digits = max(1, 1 - math.floor(math.log10(share)))
    if part < whole and float(f"{share:.{digits}f}") >= 100:
        return "over 99.9 %"
    return f"{share:.{digits}f} %" if part != whole else "100 %"


def decimal(value: float | None, digits: int = 2) -> str:
    """1,234.57; a dash for what is not known."""
    return "–" if value is None else f"{value:,.{digits}f}"


def bars(counts: Mapping[str, float] | Iterable[tuple[str, float]], whole: float | None = None) -> list[Bar]:
    """A bar a count, in the order given; shares are of `whole`, and left out without."""
    rows: list[tuple[str, Any]] = list(counts.items() if isinstance(counts, Mapping) else counts)
    longest = max((value for _, value in rows), default=0) or 1
    return [
        Bar(
            str(label),
            count(value) if isinstance(value, int) else decimal(value),
            round(100 * value / longest, 2),
            "" if whole is None else percent(value, whole),
        )
        for label, value in rows
    ]


def largest_first(counts: Mapping[str, float]) -> list[tuple[str, float]]:
    """Counts by size; of equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
