"""Geometry of the one chart that is no row of bars: how often a piece occurs against its rank, both logarithmic."""

import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 44
"""Room around the plot for its labels, in the chart's units."""


class Chart(NamedTuple):
    """Places in the chart's units, y downwards."""

    line: str
    """Points of the polyline."""
    dots: list[tuple[float, float]]
    zipf: tuple[float, float, float, float]
    """From the first point on with slope -1, as Zipf's law has it (Zipf 1949): x, y, x, y."""
    across: list[tuple[float, str]]
    """Ticks of the rank: x and label."""
    up: list[tuple[float, str]]
    """Ticks of the frequency: y and label."""


def rank_frequency(pairs: Sequence[tuple[int, int]]) -> Chart | None:
    """The chart of (rank, count), ranks ascending from 1; None for fewer than two points."""
    points = [(math.log10(rank), math.log10(found)) for rank, found in pairs if rank > 0 and found > 0]
    if len(points) < 2:
        return None
    last = points[-1][0]
    low = math.floor(min(y for _, y in points))
    high = max(math.ceil(max(y for _, y in points)), low + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / last * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    dots = [place(x, y) for x, y in points]
    start = points[0]
    length = min(last - start[0], start[1] - low)
    return Chart(
        line=" ".join(f"{x},{y}" for x, y in dots),
        dots=dots,
        zipf=(*place(*start), *place(start[0] + length, start[1] - length)),
        across=[(place(power, low)[0], _power(power)) for power in range(math.floor(last) + 1)],
        up=[(place(0, power)[1], _power(power)) for power in range(low, high + 1)],
    )


def _power(exponent: int) -> str:
    """10 to the power: 1, 10, 100, 1 k ... in as few characters as fit beside an axis."""
    prefix = ("", "k", "M", "G", "T", "P")[exponent // 3] if 0 <= exponent < 18 else f"e{exponent}"
    return f"{10 ** (exponent % 3)} {prefix}".strip()
