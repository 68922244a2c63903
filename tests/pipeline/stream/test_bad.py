"""Shards left out: nothing of them is read, all else is as it was, alike on any number of ranks."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.sections import DataConfig
from pipeline.shards.manifest import all_shards, read_manifest
from pipeline.stream.bad import BadShard, Gaps
from pipeline.stream.check import bad_shards
from pipeline.stream.loader import Prefetcher, TokenStream
from pipeline.stream.order import Order
from tests.datasets import make_dataset

BAD = ("train/000001.tar", "train/000003.tar")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    make_dataset(folder, tokens=20_000, block_tokens=256, shard_blocks=10)
    return folder / "data"


def settings(on_bad_shard: str = "skip") -> DataConfig:
    keys = ("sequence_length=16", "block_tokens=256", "shuffle_window=20", "shuffle_buffer=3", "isolate_documents=true")
    return load_config(None, [f"data.{key}" for key in (*keys, f"on_bad_shard={on_bad_shard}")]).data


def stream_of(data: Path, split: str = "train", on_bad_shard: str = "skip") -> TokenStream:
    return TokenStream(data, split, settings(on_bad_shard), seed=3)


def test_sequences_of_bad_shards_alone_are_replaced_by_near_ones(data: Path) -> None:
    stream, samples = stream_of(data), np.arange(3000)
    part = stream.parts[0]
    before = part.order.locate(samples).shard
    stream.leave_out(BAD)
    filled = part.gaps.filled(samples)
    names = np.array([entry.name for entry in part.reader.entries])
    was_bad = np.isin(names[before], BAD)
    assert not np.isin(names[part.order.locate(filled).shard], BAD).any()
    np.testing.assert_array_equal(filled != samples, was_bad)
    assert 0.1 < was_bad.mean() < 0.5
    distance = (filled - samples)[was_bad]
    assert distance.min() > 0
    assert np.median(distance) < 2 * 20 * part.order.per_block  # a window or two
    np.testing.assert_array_equal(samples, np.arange(3000))


def test_rows_are_those_of_the_replacing_sequences_under_their_own_numbers(data: Path) -> None:
    whole, left = stream_of(data), stream_of(data)
    left.leave_out(BAD)
    samples = np.arange(40, 200)
    filled = left.parts[0].gaps.filled(samples)
    rows, expected = left.rows(samples), whole.rows(filled)
    np.testing.assert_array_equal(rows.ids, expected.ids)
    np.testing.assert_array_equal(rows.documents, expected.documents)
    np.testing.assert_array_equal(rows.sample, samples)  # masks are drawn from these


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_batches_are_the_same_on_any_number_of_ranks(data: Path, world: int) -> None:
    expected = stream_of(data)
    expected.leave_out(BAD)
    streams = [stream_of(data) for _ in range(world)]
    for stream in streams:
        stream.leave_out(BAD[:1])
        stream.leave_out(BAD[1:])  # found one after another
    readers = [Prefetcher(stream, 14, rank, world, 7) for rank, stream in enumerate(streams)]
    for step in (7, 8, 9):
        ids = np.concatenate([reader.next().ids for reader in readers])
        np.testing.assert_array_equal(ids, expected.rows(np.arange(14 * step, 14 * step + 14)).ids)
    for reader in readers:
        reader.close()


def test_a_bad_shard_is_met_named_and_left_out(tmp_path: Path) -> None:
    make_dataset(tmp_path, tokens=20_000, block_tokens=256, shard_blocks=10)
    data = tmp_path / "data"
    (data / BAD[0]).unlink()
    stream = stream_of(data)
    with Prefetcher(stream, 64, 0, 1, 0) as batches:
        with pytest.raises(BadShard, match=r"000001\.tar cannot be read: .*No such file") as error:
            for _ in range(100):
                batches.next()
        stream.leave_out([error.value.shard])
        batches.restart(2)
        np.testing.assert_array_equal(batches.next().sample, np.arange(128, 192))
        for _ in range(40):  # more than an epoch
            batches.next()
    (found,) = bad_shards(data, all_shards(read_manifest(data / "manifest.json")))
    assert found.shard == BAD[0]
    fresh, before = stream_of(data), stream.readable(np.arange(640))
    sound = np.array([entry.name for entry in fresh.parts[0].reader.entries]) != BAD[0]
    expected = np.flatnonzero(sound[fresh.parts[0].order.locate(np.arange(640)).shard])
    np.testing.assert_array_equal(before.sample, expected)
    np.testing.assert_array_equal(fresh.readable(np.arange(640)).ids, before.ids)  # met there, left out here
    with pytest.raises(BadShard):
        stream_of(data, on_bad_shard="stop").readable(np.arange(640))


def test_validation_leaves_out_by_itself(tmp_path: Path) -> None:
    make_dataset(tmp_path, tokens=40_000, block_tokens=256, shard_blocks=4)
    data = tmp_path / "data"
    (data / "validation" / "000001.tar").write_bytes(b"nothing")
    assert stream_of(data, "validation").rows(np.arange(200)).ids.shape == (200, 16)
    with pytest.raises(BadShard):
        stream_of(data, "validation", "stop").rows(np.arange(200))


def test_too_much_is_missing(data: Path) -> None:
    stream = stream_of(data)
    names = [entry.name for entry in stream.parts[0].reader.entries]
    with pytest.raises(UserError, match="more than half of the data cannot be read"):
        stream.leave_out(names[: len(names) // 2 + 1])
    stream.leave_out(["validation/000000.tar", "unknown"])
    assert not stream.parts[0].gaps.bad.any()


def test_one_shard_in_a_whole_window_of_its_own() -> None:
    """Blocks of a bad shard one after another, without shuffling: the next sound ones are far."""
    order = Order([50, 50], 100 * 32, 32, 8, seed=0, shuffle=False)
    gaps = Gaps(order, [])
    gaps.bad = np.array([True, False])
    filled = gaps.filled(np.arange(400))
    assert (order.locate(filled).shard == 1).all()
    np.testing.assert_array_equal(filled[200:], np.arange(200, 400))
