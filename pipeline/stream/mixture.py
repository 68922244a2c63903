"""Mixtures: sample k of the training -> (corpus, number of that corpus's own sequence). Shares are exact.

In each period of PERIOD samples a corpus has its share of the places, to the sequence, in an order drawn from (seed,
period) alone; its own sequences fill them one after another, epoch by epoch. So weights are changed without
preprocessing again, any sample is found without walking there, and nothing depends on ranks. Pure NumPy, no files.

Price: shares are multiples of 1 / PERIOD; within a period, and so in a batch, they vary as in a draw without putting
back.
"""

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

from pipeline.stream.order import CORPORA, Array, permutation

PERIOD = 4096
"""Samples after which every corpus has had exactly its share."""


def tempered(tokens: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Weights of corpora from their tokens: tokens ** (1 / temperature), 0 where there are none.

    Temperature as in Arivazhagan et al. 2019 ("Massively multilingual neural machine translation in the wild"; they
    take 5). Others name the exponent 1 / temperature: 0.7 in multilingual BERT (its released multilingual.md, S), 0.3
    in XLM-R (Conneau et al. 2020, section 3, alpha). 1 is proportional to size, larger is more even.
    """
    return {name: float(count) ** (1 / temperature) if count else 0.0 for name, count in tokens.items()}


def places_of(weights: Mapping[str, float], period: int = PERIOD) -> dict[str, int]:
    """Places in a period by corpus, in the order of their names: shares of the weights, by largest remainder.

    No share is off by a whole place; a corpus far below one place of its own may get none. In exact arithmetic, so that
    all machines agree; a tie goes to the earlier name. ValueError where no weight is above 0.
    """
    exact = {name: Fraction(weights[name]) for name in sorted(weights)}
    whole = sum(exact.values())
    if whole <= 0:
        raise ValueError("no weight is above 0")
    quotas = {name: weight * period / whole for name, weight in exact.items()}
    places = {name: int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: quotas[name] - places[name], reverse=True)
    for name in by_remainder[: period - sum(places.values())]:
        places[name] += 1
    return places


def own_seed(seed: int, name: str) -> int:
    """The seed of a corpus's own order, 64 bits; other corpora beside it do not change it.

    Two corpora of one size (a text and its translation) would pass through one permutation under the run's seed.
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")


class Mixture:
    """Which corpus each sample is of, and which of its own sequences.

    places: how many of a period's samples each corpus has, all at least 0, together the period.
    """

    def __init__(self, places: Sequence[int], seed: int) -> None:
        self.places = np.asarray(places, np.int64)
        self.period, self.seed = int(self.places.sum()), seed
        if self.period == 0 or (self.places < 0).any():
            raise ValueError(f"places {self.places.tolist()} are of no period")
        self._labels = np.repeat(np.arange(len(self.places)), self.places)
        self._ranks = np.arange(self.period) - np.repeat(np.cumsum(self.places) - self.places, self.places)
        self._lay_out = lru_cache(maxsize=4)(self._drawn)

    def locate(self, samples: Array) -> tuple[Array, Array]:
        """Corpora of global samples (n,), and the numbers of their own sequences, counted across epochs; (n,) each."""
        periods, inside = np.divmod(np.asarray(samples, np.int64), self.period)
        corpus, own = np.empty_like(inside), np.empty_like(inside)
        for period in np.unique(periods):
            here = periods == period
            labels, ranks = self._lay_out(int(period))
            corpus[here] = labels[inside[here]]
            own[here] = period * self.places[corpus[here]] + ranks[inside[here]]
        return corpus, own

    def counts(self, samples: int) -> Array:
        """How many of the first `samples` samples each corpus has, (corpora,) int64."""
        period, rest = divmod(samples, self.period)
        labels, _ = self._lay_out(period)
        return period * self.places + np.bincount(labels[:rest], minlength=len(self.places))

    def _drawn(self, period: int) -> tuple[Array, Array]:
        """Corpus of each place of a period, and how many of its own places are before it; (period,) each."""
        order = permutation(self.period, self.seed, 0, CORPORA, period)
        labels = self._labels[order]
        ranks = np.empty_like(labels)
        ranks[np.argsort(labels, kind="stable")] = self._ranks
        return labels, ranks
