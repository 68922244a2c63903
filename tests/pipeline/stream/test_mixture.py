"""Mixtures: exact shares in every period, corpora passed through in order, the same on any ranks, no walk."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stream.mixture import PERIOD, Mixture, own_seed, places_of, tempered
from pipeline.stream.order import CORPORA, permutation, share

names = st.text("abcdefgh", min_size=1, max_size=3)
weights = st.dictionaries(names, st.floats(1e-6, 1e6), min_size=1, max_size=9)
shapes = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any)


def walked(places: list[int], seed: int, samples: int) -> list[tuple[int, int]]:
    """(corpus, number of its own sequence) of the first samples, by the definition: a counter a corpus."""
    period, labels = sum(places), [corpus for corpus, count in enumerate(places) for _ in range(count)]
    seen: Counter[int] = Counter()
    found = []
    for number in range(-(-samples // period)):
        for place in permutation(period, seed, 0, CORPORA, number).tolist():
            found.append((labels[place], seen[labels[place]]))
            seen[labels[place]] += 1
    return found[:samples]


def located(mixture: Mixture, samples: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[tuple[int, int]]:
    corpus, own = mixture.locate(samples)
    return list(zip(corpus.tolist(), own.tolist(), strict=True))


@settings(max_examples=200)
@given(shapes, st.integers(0, 2**31 - 1), st.floats(0, 4))
def test_located_is_walked(places: list[int], seed: int, periods: float) -> None:
    samples = int(periods * sum(places))
    mixture, expected = Mixture(places, seed), walked(places, seed, samples)
    assert located(mixture, np.arange(samples)) == expected
    counts = Counter(corpus for corpus, _ in expected)
    assert mixture.counts(samples).tolist() == [counts[corpus] for corpus in range(len(places))]


@settings(max_examples=100)
@given(shapes, st.integers(0, 2**31 - 1), st.integers(0, 2**40))
def test_every_period_has_the_exact_shares_and_every_corpus_its_next_sequences(
    places: list[int], seed: int, number: int
) -> None:
    period = sum(places)
    corpus, own = Mixture(places, seed).locate(np.arange(number * period, (number + 1) * period))
    assert np.bincount(corpus, minlength=len(places)).tolist() == places
    for name, count in enumerate(places):
        assert own[corpus == name].tolist() == list(range(number * count, (number + 1) * count))


@pytest.mark.parametrize("batch_size", [3, 7, 16])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_global_batch_does_not_depend_on_the_ranks(batch_size: int, world: int) -> None:
    places = [5, 1, 4]
    everything = walked(places, 9, 20 * batch_size)
    for step in range(20):
        found = []
        for rank in range(world):
            samples = np.asarray(share(batch_size, rank, world), np.int64) + step * batch_size
            found += located(Mixture(places, 9), samples)
        assert found == everything[step * batch_size : (step + 1) * batch_size]


def test_any_sample_is_found_without_walking_there() -> None:
    mixture = Mixture([2867, 1229], 3)
    far = 10**15
    corpus, own = mixture.locate(np.array([far, 0, far]))
    assert corpus[0] == corpus[2]
    assert own[0] == own[2]
    assert own[0] // mixture.places[corpus[0]] == far // PERIOD
    counts = mixture.counts(far)
    assert counts.sum() == far
    assert counts[corpus[0]] == own[0]


def test_one_corpus_is_its_own_order() -> None:
    assert located(Mixture([PERIOD], 5), np.array([0, 17, 9_999])) == [(0, 0), (0, 17), (0, 9_999)]


def test_periods_and_seeds_differ_and_the_places_are_spread() -> None:
    mixture = Mixture([1024, 3072], 1)
    corpus, _ = mixture.locate(np.arange(3 * PERIOD))
    first, second = corpus[:PERIOD], corpus[PERIOD : 2 * PERIOD]
    other, _ = Mixture([1024, 3072], 2).locate(np.arange(PERIOD))
    assert (first != second).any()
    assert (first != other).any()
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.05  # three standard deviations of a random order
    thirty_two = (corpus == 0).reshape(-1, 32).sum(axis=1)
    assert abs(thirty_two.var() / (32 * 0.25 * 0.75) - 1) < 0.25  # batches vary as a draw


def test_no_period_is_refused() -> None:
    for places in ([], [0, 0], [3, -1]):
        with pytest.raises(ValueError, match="no period"):
            Mixture(places, 0)


@settings(max_examples=300)
@given(weights, st.integers(1, 5000))
def test_places_are_the_shares_to_less_than_one_place(given_weights: dict[str, float], period: int) -> None:
    places = places_of(given_weights, period)
    whole = sum(map(Fraction, given_weights.values()))
    assert list(places) == sorted(given_weights)
    assert sum(places.values()) == period
    for name, weight in given_weights.items():
        assert abs(places[name] - Fraction(weight) * period / whole) < 1
    assert places == places_of(dict(reversed(given_weights.items())), period)
    assert places == places_of({name: 4 * weight for name, weight in given_weights.items()}, period)


@pytest.mark.parametrize(
    ("given_weights", "period", "places"),
    [
        ({"b": 1, "a": 3}, 4096, {"a": 3072, "b": 1024}),
        ({"a": 0.7, "b": 0.3}, 10, {"a": 7, "b": 3}),
        ({"a": 1, "b": 1, "c": 1}, 4096, {"a": 1366, "b": 1365, "c": 1365}),  # a tie: the earlier name
        ({"a": 5.3, "b": 2.6, "c": 2.1}, 10, {"a": 5, "b": 3, "c": 2}),  # largest remainders
        ({"a": 1e300, "b": 1e300}, 10, {"a": 5, "b": 5}),
        ({"a": 1, "b": 1e-9}, 10, {"a": 10, "b": 0}),
    ],
)
def test_places_by_hand(given_weights: dict[str, float], period: int, places: dict[str, int]) -> None:
    assert places_of(given_weights, period) == places


def test_no_weight_is_no_share() -> None:
    with pytest.raises(ValueError, match="no weight"):
        places_of({"a": 0.0})


@given(st.dictionaries(names, st.integers(1, 10**15), min_size=1, max_size=9), st.floats(0.2, 100))
def test_temperature_is_the_published_formula(tokens: dict[str, int], temperature: float) -> None:
    """Shares of text, to the power of 1 / T, normalised again (Arivazhagan et al. 2019; S = 1 / T in BERT's)."""
    found = tempered(tokens, temperature)
    shares = np.array(list(tokens.values()), np.float64) / sum(tokens.values())
    smoothed = np.exp(np.log(shares) / temperature)
    np.testing.assert_allclose(
        np.array(list(found.values())) / sum(found.values()), smoothed / smoothed.sum(), rtol=1e-9
    )


def test_temperature_by_hand() -> None:
    assert tempered({"en": 1000, "is": 1, "none": 0}, 1) == {"en": 1000.0, "is": 1.0, "none": 0.0}
    found = tempered({"en": 1000, "is": 1}, 1 / 0.7)
    assert found["en"] / found["is"] == pytest.approx(1000**0.7)  # "only 100x more", says BERT's multilingual.md
    assert tempered({"en": 10**6, "is": 1}, 2) == {"en": 1000.0, "is": 1.0}


def test_a_corpus_has_a_seed_of_its_own() -> None:
    seeds = {own_seed(seed, name) for seed in (0, 1) for name in ("en", "de", "0", "10")}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert own_seed(3, "wiki") == 0x2C8E31E83A8100ED  # another would break resuming
