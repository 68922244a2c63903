"""From two scores a pair to figures: accuracy by phenomenon with 95 % intervals; for bias, the share of stereotypes.

A tie counts as half: a network that cannot tell the two apart is at 0.5, as one that guesses.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.probing.pairs import Pair, PairSet

NORMAL_95 = 1.959963984540054
"""Quantile of the normal distribution that leaves 2.5 % on each side."""
SHOWN_CHARACTERS = 60
"""Of a phenomenon's name in the table."""
PART_CHARACTERS = 80
"""Of the set's and of the phenomenon's name in a metric's, of which MLflow takes 250 in all."""


@dataclass(frozen=True)
class Scored:
    """A pair and what one network makes of it, in nats."""

    pair: Pair
    good: float
    bad: float
    identical: bool
    """The tokenizer gives both texts the same ids, so the network cannot tell them apart."""

    @property
    def points(self) -> float:
        """1 where `good` is preferred, 0.5 for a tie, else 0."""
        return 0.5 if self.good == self.bad else float(self.good > self.bad)


def wilson(points: float, pairs: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927); points may be a half, which SciPy's binomtest does not take."""
    share, squared = points / pairs, NORMAL_95**2
    middle = share + squared / (2 * pairs)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / pairs + squared / (4 * pairs**2))
    scale = 1 + squared / pairs
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def figures(scored: Sequence[Scored]) -> dict[str, float]:
    """Share of pairs whose `good` is preferred, its interval, ties, and the mean difference with its standard error."""
    pairs = len(scored)
    points = sum(one.points for one in scored)
    low, high = wilson(points, pairs)
    differences = [one.good - one.bad for one in scored]
    mean = sum(differences) / pairs
    spread = sum((value - mean) ** 2 for value in differences) / max(1, pairs - 1)
    return {
        "pairs": pairs,
        "accuracy": points / pairs,
        "low": low,
        "high": high,
        "ties": sum(one.good == one.bad for one in scored),
        "mean_difference": mean,
        "standard_error": math.sqrt(spread / pairs),
    }


def summarise(pairs: PairSet, scored: Mapping[str, Sequence[Scored]]) -> dict[str, Any]:
    """All figures of a set, by network: overall, by phenomenon (bias: occupation), and for bias by whom it expects."""
    some = next(iter(scored.values()))
    summary: dict[str, Any] = {
        "kind": pairs.kind,
        "source": pairs.source,
        "sha256": pairs.sha256,
        "pairs": len(pairs.pairs),
        "identical_tokens": {network: sum(one.identical for one in ones) for network, ones in scored.items()},
        "overall": {network: figures(ones) for network, ones in scored.items()},
        "phenomena": {name: _of(scored, "phenomenon", name) for name in pairs.phenomena},
    }
    shares = {n: [by[n]["accuracy"] for by in summary["phenomena"].values()] for n in scored}
    summary["mean_of_phenomena"] = {network: sum(values) / len(values) for network, values in shares.items()}
    groups = dict.fromkeys(one.pair.group for one in some if one.pair.group is not None)
    if groups:
        summary["groups"] = {str(group): _of(scored, "group", group) for group in groups}
    return summary


def metrics_of(name: str, summary: Mapping[str, Any]) -> dict[str, float]:
    """For MLflow: evaluate/pairs/SET/NETWORK/accuracy, and by phenomenon; bias: stereotype_share, mean_difference."""
    named: dict[str, float] = {}
    share = "stereotype_share" if summary["kind"] == "bias" else "accuracy"
    (part_of_set,), parts = _parts([name]), _parts(list(summary["phenomena"]))
    for network, overall in summary["overall"].items():
        prefix = f"evaluate/pairs/{part_of_set}/{network}"
        named |= {f"{prefix}/{share}": overall["accuracy"], f"{prefix}/mean_difference": overall["mean_difference"]}
        for part, by in zip(parts, summary["phenomena"].values(), strict=True):
            named[f"{prefix}/{part}/{share}"] = by[network]["accuracy"]
    return named


def table(name: str, summary: Mapping[str, Any]) -> str:
    """The figures as text: a line a phenomenon, the networks side by side."""
    bias = summary["kind"] == "bias"
    networks = list(summary["overall"])
    rows = [(_shown(phenomenon), by) for phenomenon, by in summary["phenomena"].items()]
    rows += [(f"expected {group}", by) for group, by in summary.get("groups", {}).items()]
    rows.append(("all pairs", summary["overall"]))
    width = max(_columns(label) for label, _ in rows)
    what = "share of pairs whose stereotype is preferred (0.5: no preference)" if bias else "accuracy (0.5: chance)"
    lines = [f"{name} ({summary['source']}, {summary['pairs']:,} pairs): {what}, 95 % interval"]
    lines.append(f"  {'':<{width}}  {'pairs':>6}" + "".join(f"  {network:>22}" for network in networks))
    for label, by in rows:
        cells = "".join(f"  {_cell(by[network]):>22}" for network in networks)
        lines.append(f"  {label}{' ' * (width - _columns(label))}  {by[networks[0]]['pairs']:>6,}{cells}")
    if not bias and len(summary["phenomena"]) > 1:
        means = "".join(f"  {format(summary['mean_of_phenomena'][n], '.3f') + 15 * ' ':>22}" for n in networks)
        lines.append(f"  {'mean of phenomena':<{width}}  {'':>6}{means}")
    if bias:
        means = "".join(f"  {_difference(summary['overall'][network]):>22}" for network in networks)
        lines.append(f"  {'mean difference':<{width}}  {'nats':>6}{means}")
    for network in networks:
        same, ties = summary["identical_tokens"][network], summary["overall"][network]["ties"]
        if ties:
            lines.append(
                f"  {network}: {ties:,} ties count as half; {same:,} pairs have the same tokens for both texts"
            )
    return "\n".join(lines)


def _of(scored: Mapping[str, Sequence[Scored]], field: str, value: Any) -> dict[str, dict[str, float]]:
    return {n: figures([one for one in ones if getattr(one.pair, field) == value]) for n, ones in scored.items()}


def _columns(text: str) -> int:
    """Columns of a terminal; Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _shown(name: str) -> str:
    """One short line, whatever a file calls its phenomenon."""
    line = " ".join("".join(character if character.isprintable() else " " for character in name).split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 1]}…"


def _cell(figure: Mapping[str, float]) -> str:
    return f"{figure['accuracy']:.3f} ({figure['low']:.3f}, {figure['high']:.3f})"


def _difference(figure: Mapping[str, float]) -> str:
    return f"{figure['mean_difference']:+.3f} (s.e. {figure['standard_error']:.3f})"


def _parts(names: Sequence[str]) -> list[str]:
    """Names as parts of a metric's that MLflow takes; a cut one, or one changed to equal another, ends in a digest."""
    plain = [re.sub(r"[^\w.\- :]", "_", name).strip(" .") or "_" for name in names]
    parts = []
    for name, part in zip(names, plain, strict=True):
        if len(part) > PART_CHARACTERS or (part != name and plain.count(part) > 1):
            part = f"{part[: PART_CHARACTERS - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        parts.append(part)
    return parts
