"""The corpora of a data set, and the shares in which they are trained on.

Preprocessing gives each corpus of corpus.corpora a split of its own, train-NAME. Their weights are those of the run's
config where it names corpora, else those that the data was made with. A share of the training sequences is the same
share of the tokens trained on: all sequences are equally long.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.corpus_sections import CorpusConfig
from pipeline.base.errors import UserError
from pipeline.shards.manifest import Manifest, SplitEntry
from pipeline.stream.mixture import PERIOD, places_of, tempered

PREFIX = "train-"


@dataclass(frozen=True)
class Shares:
    """How often each corpus is trained on."""

    places: dict[str, int]
    """Sequences of PERIOD ones by corpus, in the order of their names, all above 0; {}: the data is no mixture."""
    told: str
    """Where they come from."""

    def fraction(self, name: str) -> float:
        """A corpus's part of the training sequences, and so of the tokens."""
        return self.places[name] / PERIOD


NO_MIXTURE = Shares({}, "one corpus")


def corpora_of(manifest: Manifest) -> dict[str, SplitEntry]:
    """The training splits of a mixture by corpus, in the order of their names; {} for a data set of one corpus."""
    named = {split.removeprefix(PREFIX): entry for split, entry in manifest.splits.items() if split.startswith(PREFIX)}
    return dict(sorted(named.items()))


def find_shares(manifest: Manifest, data: Path, own: CorpusConfig | None = None) -> Shares:
    """The shares to train with. `own`: the run's config; data: the manifest's folder, for messages.

    UserError where the config names other corpora than the data has, or leaves one with less than a place.
    """
    entries = corpora_of(manifest)
    made: Mapping[str, Any] = manifest.config.get("corpus") or {}
    given = own is not None and bool(own.corpora)
    if not entries and not given:
        return NO_MIXTURE
    corpora = own.corpora if own is not None and given else made.get("corpora") or {}
    temperature = own.temperature if own is not None and given else made.get("temperature")
    _check_names(set(corpora), set(entries), data, "corpus.corpora" if given else "the manifest's corpus.corpora")
    whose = "this config" if given else "the config that the data was made with"
    if temperature is None:
        weights = {name: _weight(corpora[name]) for name in entries}
        listed = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        told = f"by the weights of {whose}: {listed}"
    else:
        weights = tempered({name: entry.tokens for name, entry in entries.items()}, temperature)
        told = f"by tokens to the power of 1 / {temperature:g}, corpus.temperature of {whose}"
    return Shares(_places(weights, entries, data, temperature), told)


def _weight(source: Any) -> float:
    return float(source.get("weight", 1.0) if isinstance(source, Mapping) else source.weight)


def _check_names(named: set[str], there: set[str], data: Path, what: str) -> None:
    if named == there:
        return
    if not there:
        raise UserError(
            f"{what} names {_listed(named)}, but {data} was made of one corpus. Leave corpus.corpora out, or run "
            "pipeline/preprocess.py with it into a new run_dir."
        )
    parts = [f"{_listed(there - named)} not named"] if there - named else []
    parts += [f"{_listed(named - there)} not in the data"] if named - there else []
    raise UserError(
        f"{what} is not what {data} was made of: {'; '.join(parts)}. Name exactly {_listed(there)} (each with its "
        "weight), leave corpus.corpora out for the weights that the data was made with, or run pipeline/preprocess.py "
        "again into a new run_dir."
    )


def _places(
    weights: dict[str, float], entries: Mapping[str, SplitEntry], data: Path, temperature: float | None
) -> dict[str, int]:
    empty = [name for name, entry in entries.items() if entry.tokens == 0]
    if empty:
        raise UserError(
            f"{data} has no training text of corpus {empty[0]}: nothing was read, or all was dropped "
            "(statistics.json says why). Mend its paths or filters, or leave it out, and run pipeline/preprocess.py "
            "again into a new run_dir."
        )
    places = places_of(weights)
    absent = [name for name, count in places.items() if count == 0]
    if absent:
        key, way = f"corpus.corpora.{absent[0]}.weight", "Raise it"
        if temperature is not None:
            key, way = f"corpus.temperature {temperature:g}", "Raise it for more even shares"
        share = weights[absent[0]] / sum(weights.values())
        raise UserError(
            f"{key} gives corpus {absent[0]} {share:.2g} of the training sequences, not one of {PERIOD:,}. {way}, or "
            "preprocess without that corpus into a new run_dir."
        )
    return places


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
