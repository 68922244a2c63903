"""A data set of several corpora: which shares hold, what is refused, and the rows that come of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base.corpus_sections import CorpusConfig
from pipeline.base.errors import UserError
from pipeline.base.sections import DataConfig
from pipeline.shards.manifest import read_manifest
from pipeline.stream.corpora import Shares, corpora_of, find_shares
from pipeline.stream.loader import Prefetcher, TokenStream
from pipeline.stream.mixture import PERIOD, own_seed
from tests.datasets import make_dataset
from tests.mixtures import corpus_config, make_mixture

TOKENS = {"wiki": 9_000, "news": 3_000, "code": 5_100}
WEIGHTS = {"wiki": 0.5, "news": 0.3, "code": 0.2}
SETTINGS = DataConfig(sequence_length=34, shuffle_window=5, shuffle_buffer=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    make_mixture(folder, TOKENS, corpus_config(WEIGHTS))
    return folder / "data"


def own(weights: Mapping[str, float], temperature: float | None = None) -> CorpusConfig:
    return CorpusConfig(**corpus_config(weights, temperature))


def shares_of(data: Path, corpus: CorpusConfig | None = None) -> Shares:
    return find_shares(read_manifest(data / "manifest.json"), data, corpus)


def open_stream(data: Path, corpus: CorpusConfig | None = None, **changes: Any) -> TokenStream:
    settings = SETTINGS.model_copy(update=changes)
    return TokenStream(data, "train", settings, 1, shares=shares_of(data, corpus))


def test_the_shares_that_the_data_was_made_with(data: Path) -> None:
    shares = shares_of(data)
    assert shares.places == {"code": 819, "news": 1229, "wiki": 2048}
    assert shares.told == "by the weights of the config that the data was made with: code 0.2, news 0.3, wiki 0.5"
    assert shares == shares_of(data, CorpusConfig())
    assert TokenStream(data, "train", SETTINGS, 1).shares == shares
    assert shares.fraction("wiki") == 0.5


def test_the_shares_of_the_runs_own_config(data: Path) -> None:
    shares = shares_of(data, own({"wiki": 1, "news": 1, "code": 2}))
    assert shares.places == {"code": 2048, "news": 1024, "wiki": 1024}
    assert shares.told == "by the weights of this config: code 2, news 1, wiki 1"


def test_shares_by_temperature(data: Path, tmp_path: Path) -> None:
    shares = shares_of(data, own(dict.fromkeys(TOKENS, 1), 2))
    roots = {name: tokens**0.5 for name, tokens in TOKENS.items()}
    for name, root in roots.items():
        assert abs(shares.places[name] - PERIOD * root / sum(roots.values())) < 1
    assert shares.told == "by tokens to the power of 1 / 2, corpus.temperature of this config"
    make_mixture(tmp_path, TOKENS, corpus_config(dict.fromkeys(TOKENS, 1), 2))
    assert shares_of(tmp_path / "data").places == shares.places
    assert shares_of(tmp_path / "data", own(WEIGHTS)).places == shares_of(data).places


def test_one_corpus_has_no_shares(tmp_path: Path) -> None:
    make_dataset(tmp_path, tokens=2_000)
    data = tmp_path / "data"
    assert shares_of(data) == shares_of(data, CorpusConfig())
    assert shares_of(data).places == {}
    stream = TokenStream(data, "train", SETTINGS, 1)
    assert stream.mixture is None
    assert stream.epochs(100) == {}
    with pytest.raises(UserError, match=r"corpus\.corpora names news, wiki, but .* was made of one corpus\. Leave"):
        shares_of(data, own({"wiki": 1, "news": 1}))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (("wiki", "news"), ": code not named. Name exactly code, news, wiki"),
        (("wiki", "news", "code", "web"), ": web not in the data."),
        (("wiki", "web"), ": code, news not named; web not in the data."),
    ],
)
def test_other_names_than_the_datas(data: Path, named: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError) as error:
        shares_of(data, own(dict.fromkeys(named, 1)))
    assert words in str(error.value)
    assert "leave corpus.corpora out" in str(error.value)


def test_a_manifest_that_does_not_name_its_corpora(data: Path, tmp_path: Path) -> None:
    make_mixture(tmp_path, TOKENS, {})
    with pytest.raises(UserError, match=r"the manifest's corpus\.corpora .*code, news, wiki not named"):
        shares_of(tmp_path / "data")
    assert shares_of(tmp_path / "data", own(WEIGHTS)).places == shares_of(data).places


def test_a_share_too_small(data: Path) -> None:
    with pytest.raises(UserError, match=r"corpora\.news\.weight gives corpus news 1e-05 of .* of 4,096\. Raise it, or"):
        shares_of(data, own({"wiki": 1, "news": 1e-5, "code": 1e-3}))
    with pytest.raises(UserError, match=r"corpus\.temperature 0\.05 gives corpus code .* Raise it for more even"):
        shares_of(data, own(dict.fromkeys(TOKENS, 1), 0.05))


def test_a_corpus_without_enough_text(tmp_path: Path) -> None:
    make_mixture(tmp_path / "empty", TOKENS | {"news": 0}, corpus_config(WEIGHTS))
    for corpus in (None, own(dict.fromkeys(TOKENS, 1), 2)):
        with pytest.raises(UserError, match="no training text of corpus news"):
            shares_of(tmp_path / "empty" / "data", corpus)
    make_mixture(tmp_path / "small", TOKENS | {"news": 20}, corpus_config(WEIGHTS))
    with pytest.raises(UserError, match=r"corpus news in .* does not fill one sequence: 20 tokens .*without it"):
        open_stream(tmp_path / "small" / "data")


@pytest.mark.parametrize("segments", ["none", "paper"])
def test_rows_are_those_of_each_corpuss_own_order(data: Path, segments: str) -> None:
    stream = open_stream(data, segments=segments)
    samples = np.arange(3_900, 4_400)  # over a period's end
    rows = stream.rows(samples)
    assert stream.mixture is not None
    assert rows.documents is not None
    np.testing.assert_array_equal(rows.sample, samples)
    corpus, numbers = stream.mixture.locate(samples)
    settings = SETTINGS.model_copy(update={"segments": segments})
    for number, name in enumerate(sorted(TOKENS)):
        alone = TokenStream(data, f"train-{name}", settings, own_seed(1, name))
        here = np.flatnonzero(corpus == number)
        expected = alone.rows(numbers[here])
        if segments == "none":
            np.testing.assert_array_equal(rows.ids[here], expected.ids)
            np.testing.assert_array_equal(rows.documents[here], expected.documents)
        assert (np.sort(rows.ids[here]) == np.sort(expected.ids)).mean() > 0.99  # segments split by global sample
    assert (rows.segments is None) == (segments == "none")


def test_every_corpus_passes_through_its_sequences_epoch_by_epoch(data: Path) -> None:
    """Nothing is lost or repeated within an epoch of a corpus, whatever the weights."""
    contents = {}
    for name in TOKENS:
        alone = TokenStream(data, f"train-{name}", SETTINGS, 0, shuffle=False)
        contents[name] = sorted(alone.rows(np.arange(alone.sequences)).ids.tolist())
    for weights in (WEIGHTS, {"wiki": 1, "news": 8, "code": 1}):
        stream = open_stream(data, own(weights))
        assert stream.mixture is not None
        rows = stream.rows(np.arange(4_000)).ids
        corpus, _ = stream.mixture.locate(np.arange(4_000))
        for number, name in enumerate(sorted(TOKENS)):
            mine, epoch = rows[corpus == number].tolist(), len(contents[name])
            assert len(mine) > epoch
            for start in range(0, len(mine) - epoch, epoch):
                assert sorted(mine[start : start + epoch]) == contents[name]


def test_new_weights_keep_each_corpuss_order(data: Path) -> None:
    found = []
    for weights in (WEIGHTS, {"wiki": 1, "news": 1, "code": 7}):
        stream = open_stream(data, own(weights))
        assert stream.mixture is not None
        samples = np.arange(1_000)
        corpus, _ = stream.mixture.locate(samples)
        found.append([stream.rows(samples[corpus == number]).ids[:90] for number in range(3)])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_order_of_writing_does_not_matter(data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "manifest.json").read_text())
    content["splits"] = dict(reversed(content["splits"].items()))
    (tmp_path / "data").symlink_to(data)
    manifest = tmp_path / "other.json"
    manifest.write_text(json.dumps(content))
    assert list(corpora_of(read_manifest(manifest))) == sorted(TOKENS)
    backwards = own(dict(reversed(WEIGHTS.items())))
    np.testing.assert_array_equal(
        open_stream(data, backwards).rows(np.arange(50)).ids, open_stream(data).rows(np.arange(50)).ids
    )


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_global_batches_do_not_depend_on_the_ranks(data: Path, world: int) -> None:
    batch_size, whole = 19, open_stream(data)
    readers = [Prefetcher(open_stream(data), batch_size, rank, world, 212) for rank in range(world)]
    try:
        for step in range(212, 220):  # over a period's end
            expected = whole.rows(np.arange(step * batch_size, (step + 1) * batch_size))
            joined = np.concatenate([reader.next().ids for reader in readers])
            np.testing.assert_array_equal(joined, expected.ids)
    finally:
        for reader in readers:
            reader.close()


def test_epochs_and_sequences(data: Path) -> None:
    stream = open_stream(data)
    assert stream.mixture is not None
    alone = {name: TokenStream(data, f"train-{name}", SETTINGS, 0).sequences for name in sorted(TOKENS)}
    assert stream.sequences == sum(alone.values())
    counts = stream.mixture.counts(5_000)
    assert list(stream.epochs(5_000)) == list(alone)
    assert list(stream.epochs(5_000).values()) == [c / n for c, n in zip(counts, alone.values(), strict=True)]
    assert set(stream.epochs(0).values()) == {0.0}


def test_temperature_and_weights_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"corpus\.temperature or weights \(corpus\.corpora\.a\.weight\), not both"):
        own({"a": 2, "b": 1}, 3)
    assert own({"a": 1, "b": 1}, 3).temperature == 3
