"""Geometry of a curve over steps, beside the mean and the band of a reference."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.reporting.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

POINTS = 400
"""Most points of a curve that are drawn."""
FIGURES = 6
"""Most labels of an axis."""


class BandChart(NamedTuple):
    """Places in the chart's units, y downwards."""

    line: str
    """Points of the run's polyline."""
    mean: str
    """Those of the reference's mean; empty without one."""
    band: str
    """Those of the polygon between the band's limits; empty without one."""
    across: list[tuple[float, str]]
    """Ticks of the step: x and label."""
    up: list[tuple[float, str]]
    """Ticks of the figure: y and label."""


Curve = Sequence[tuple[float, float]]
"""(step, value), steps ascending."""


def band_chart(run: Curve, mean: Curve = (), low: Curve = (), high: Curve = (), *, ratio: bool = False) -> BandChart:
    """The chart of a run with one point at least. ratio: a logarithmic axis, for values above 0."""
    run = thinned([(step, value) for step, value in run if not ratio or value > 0])
    shown = [*run, *mean, *low, *high]
    scale = math.log10 if ratio else float
    bottom, top = _range([scale(value) for _, value in shown])
    last = max((step for step, _ in shown), default=1) or 1

    def place(step: float, value: float) -> tuple[float, float]:
        across = LEFT + step / last * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(TOP + (top - scale(value)) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    def points(curve: Curve) -> str:
        return " ".join("{},{}".format(*place(step, value)) for step, value in curve)

    up = ratio_ticks(bottom, top) if ratio else even_ticks(bottom, top)
    return BandChart(
        line=points(run),
        mean=points(mean),
        band=f"{points(low)} {points(list(reversed(high)))}".strip(),
        across=[(place(step, run[0][1])[0], f"{step:,.0f}") for step in even_ticks(0, last)] if run else [],
        up=[(place(0, value)[1], f"{value:.3g}") for value in up],
    )


def thinned(curve: Curve) -> list[tuple[float, float]]:
    """POINTS of them or fewer, evenly, with the last one."""
    every = max(1, math.ceil(len(curve) / (POINTS - 1)))
    kept = list(curve[::every])
    return kept if not curve or kept[-1] == curve[-1] else [*kept, curve[-1]]


def even_ticks(low: float, high: float) -> list[float]:
    """Round values 1, 2 or 5 times a power of ten apart, within the limits."""
    least = (high - low) / FIGURES
    power = 10.0 ** math.floor(math.log10(least))
    apart = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least)
    first, last = math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9)
    return [number * apart for number in range(first, last + 1)]


def ratio_ticks(low: float, high: float) -> list[float]:
    """Values for a logarithmic axis within powers of ten: powers, with 2 and 5 where there is room, or even values."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    if high - low < 0.5:
        return even_ticks(10**low, 10**high)
    factors = (1, 2, 5) if high - low < 2 else (1,)
    every = max(1, math.ceil(len(powers) / FIGURES))
    found = [factor * 10.0**power for power in powers[::every] for factor in factors]
    return [value for value in found if low - 1e-9 <= math.log10(value) <= high + 1e-9]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Limits with a little room; apart even where all values are one."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room
