"""What networks have made of sets of pairs before: figures and scores are kept by set, network and digests.

A set scored by one network keeps what others made of the same pairs. A network whose weights or tokenizer are others
now loses its figures, and no other does.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.files import read_json
from pipeline.probing.pairs import PairSet
from pipeline.tasks.formats.jsonl import read_json_lines

DIGESTS = ("weights", "tokenizer")
"""Facts of a network by which its scores hold; it may lie in another place."""
BY_NETWORK = ("identical_tokens", "overall", "mean_of_phenomena")
BY_NAME_AND_NETWORK = ("phenomena", "groups")

Facts = dict[str, str]
Summary = dict[str, Any]


def read_known(result: Path, facts: Mapping[str, Facts]) -> tuple[dict[str, Facts], dict[str, Summary]]:
    """Facts of all networks, these included, and the sets as they were scored before, without what holds no more.

    No sets where the file is missing or damaged. facts: of the networks that are to score now.
    """
    try:
        before = read_json(result)
        networks = before["networks"]
        stale = {n for n, now in facts.items() if any(networks.get(n, {}).get(key) != now[key] for key in DIGESTS)}
        sets = {name: of_networks(one, one["overall"].keys() - stale) for name, one in before["sets"].items()}
        return {**networks, **facts}, {name: one for name, one in sets.items() if one["overall"]}
    except (UserError, KeyError, TypeError, AttributeError, ValueError):
        return dict(facts), {}


def summary_of(one: PairSet, known: Mapping[str, Summary]) -> Summary:
    """The known figures of these very pairs; {} where there are none."""
    found = known.get(one.name, {})
    return found if found.get("sha256") == one.sha256 else {}


def of_networks(summary: Mapping[str, Any], networks: Collection[str]) -> Summary:
    """The figures of these networks alone."""

    def chosen(by: Mapping[str, Any]) -> dict[str, Any]:
        return {network: value for network, value in by.items() if network in networks}

    flat = {key: chosen(summary[key]) for key in BY_NETWORK}
    deep = {
        key: {name: chosen(by) for name, by in summary[key].items()} for key in BY_NAME_AND_NETWORK if key in summary
    }
    return {**summary, **flat, **deep}


def united(before: Mapping[str, Any], now: Mapping[str, Any]) -> Summary:
    """Both summaries of the same pairs in one; where both have a figure, the one of now."""
    both = {
        key: united(before[key], value) if isinstance(value, dict) and key in before else value
        for key, value in now.items()
    }
    return {**before, **both}


def with_others(rows: Sequence[Mapping[str, Any]], path: Path, others: Collection[str]) -> list[dict[str, Any]]:
    """Rows of scores, and in each what the other networks made of the pair, where the file of the same pairs has it."""
    try:
        before = [row for _, row in read_json_lines(path)] if others else []
    except UserError:
        before = []
    if len(before) != len(rows):
        return [dict(row) for row in rows]
    return [
        {**row, **{network: old[network] for network in others if network in old}}
        for row, old in zip(rows, before, strict=True)
    ]
