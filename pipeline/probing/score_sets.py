"""Scores sets of pairs by a network: encodes, checks lengths, scores each distinct text once, puts pairs together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.base.progress import Progress
from pipeline.probing.figures import Scored
from pipeline.probing.networks import Folder, load_network
from pipeline.probing.pairs import PairSet
from pipeline.probing.scores import Ids, encode, require_finite, score_texts


@dataclass(frozen=True)
class EncodedSets:
    """Sets of pairs as one network takes them."""

    rows: Mapping[str, Sequence[tuple[Ids, Ids]]]
    """By set, the ids of each pair's texts."""
    own: dict[Ids, list[bool]]
    """Of all of them, which ids are the text's own."""


def encode_sets(folder: Folder, sets: Sequence[PairSet]) -> EncodedSets:
    """UserError for a text that is too long, or of which nothing is left."""
    encoded: dict[str, list[tuple[Ids, Ids]]] = {}
    own: dict[Ids, list[bool]] = {}
    for one in sets:
        good, flags = encode(folder.tokenizer, [pair.good for pair in one.pairs])
        bad, more = encode(folder.tokenizer, [pair.bad for pair in one.pairs])
        encoded[one.name] = list(zip(good, bad, strict=True))
        own |= flags | more
        _check(folder, one, encoded[one.name], own)
    return EncodedSets(encoded, own)


def score_sets(
    folder: Folder, sets: Sequence[PairSet], encoded: EncodedSets, device: torch.device
) -> dict[str, list[Scored]]:
    """What one network makes of every pair, by set. Raises UserError."""
    _warn_of_untrained_places(folder, encoded.own)
    model = load_network(folder, device)
    with Progress(sum(map(sum, encoded.own.values())), "tokens", f"scoring by the {folder.kind}") as progress:
        scores = score_texts(folder, model, encoded.own, progress.advance)
    require_finite(scores.values(), folder.where)
    return {
        one.name: [
            Scored(pair, scores[good], scores[bad], good == bad)
            for pair, (good, bad) in zip(one.pairs, encoded.rows[one.name], strict=True)
        ]
        for one in sets
    }


def prediction_rows(pairs: PairSet, scored: Mapping[str, Sequence[Scored]]) -> list[dict[str, Any]]:
    """A JSON object a pair: its texts, both scores by each network, and the preferred text."""
    rows = []
    for place, pair in enumerate(pairs.pairs):
        row: dict[str, Any] = {"line": pair.line, "phenomenon": pair.phenomenon, "good": pair.good, "bad": pair.bad}
        row |= {} if pair.group is None else {"group": pair.group}
        for network, ones in scored.items():
            one = ones[place]
            preferred = {1.0: "good", 0.5: "tie", 0.0: "bad"}[one.points]
            row[network] = {"good": round(one.good, 6), "bad": round(one.bad, 6), "preferred": preferred}
            row[network] |= {"identical_tokens": True} if one.identical else {}
        rows.append(row)
    return rows


def _check(folder: Folder, one: PairSet, encoded: Sequence[tuple[Ids, Ids]], own: Mapping[Ids, Sequence[bool]]) -> None:
    for pair, rows in zip(one.pairs, encoded, strict=True):
        if not all(any(own[row]) for row in rows):
            raise UserError(
                f"{one.place(pair)}: the tokenizer of {folder.path} leaves no token of a text, whose score would be 0 "
                "and above all others. Mend the pair or leave it out."
            )
        longest = max(map(len, rows))
        if folder.positions is not None and longest > folder.positions:
            raise UserError(
                f"{one.place(pair)}: a text of {longest:,} tokens, but {folder.path} takes {folder.positions:,} at "
                "most. Shorten the pair or leave it out: cut texts cannot be compared."
            )


def _warn_of_untrained_places(folder: Folder, own: Mapping[Ids, Any]) -> None:
    """Texts longer than the network was trained on are scored, but that is said."""
    beyond = sum(len(row) > folder.tokenizer.model_max_length for row in own)
    if beyond:
        get_logger().warning(
            f"{beyond:,} texts are longer than the {folder.tokenizer.model_max_length:,} tokens that the "
            f"{folder.kind}'s tokenizer names: places beyond may be untrained"
        )
