"""Order: an epoch visits each sequence once; a global batch is the same on any number of ranks; no walk to a place."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stream.order import BLOCKS, SEQUENCES, SHARDS, Order, Places, permutation, share

Place = tuple[int, int, int]


def rows_of(places: Places) -> list[Place]:
    return list(zip(places.shard.tolist(), places.block.tolist(), places.row.tolist(), strict=True))


def all_sequences(shard_blocks: list[int], tokens: int, block_tokens: int, content: int) -> list[Place]:
    """Every sequence of a split in the order of its stream, counted block by block."""
    found = []
    left = tokens
    for shard, blocks in enumerate(shard_blocks):
        for block in range(blocks):
            found += [(shard, block, row) for row in range(min(left, block_tokens) // content)]
            left -= block_tokens
    return found


def walked_epoch(shard_blocks: list[int], tokens: int, order: Order, block_tokens: int, content: int) -> list[Place]:
    """One epoch by the definition, walking: permute shards, blocks in windows, sequences in buffers."""
    epoch, seed = 1, order.seed
    by_block: dict[tuple[int, int], list[Place]] = {}
    for place in all_sequences(shard_blocks, tokens, block_tokens, content):
        by_block.setdefault(place[:2], []).append(place)
    shards = permutation(len(shard_blocks), seed, epoch, SHARDS, 0).tolist()
    blocks = [(shard, block) for shard in shards for block in range(shard_blocks[shard])]
    mixed = []
    for number, at in enumerate(range(0, len(blocks), order.window)):
        window = blocks[at : at + order.window]
        mixed += [window[i] for i in permutation(len(window), seed, epoch, BLOCKS, number)]
    result = []
    for number, at in enumerate(range(0, len(mixed), order.buffer)):
        buffer = [place for block in mixed[at : at + order.buffer] for place in by_block.get(block, [])]
        result += [buffer[i] for i in permutation(len(buffer), seed, epoch, SEQUENCES, number)]
    return result


splits = st.tuples(
    st.lists(st.integers(1, 6), min_size=1, max_size=5),  # blocks of each shard
    st.integers(1, 30),  # content
    st.integers(8, 64),  # tokens of a block
    st.floats(0.01, 1),  # how full the last block is
    st.integers(1, 9),  # window
    st.integers(1, 7),  # buffer
    st.integers(0, 2**64 - 1),  # seed
)


@settings(max_examples=300)
@given(splits)
def test_an_epoch_is_the_walked_one_and_visits_each_sequence_once(
    split: tuple[list[int], int, int, float, int, int, int],
) -> None:
    shard_blocks, content, block_tokens, full, window, buffer, seed = split
    tokens = (sum(shard_blocks) - 1) * block_tokens + max(1, int(full * block_tokens))
    order = Order(shard_blocks, tokens, block_tokens, content, seed=seed, window=window, buffer=buffer)
    sequences = all_sequences(shard_blocks, tokens, block_tokens, content)
    assert order.sequences == len(sequences)
    if not sequences:
        return
    places = order.locate(np.arange(order.sequences, 2 * order.sequences))
    assert (places.epoch == 1).all()
    assert Counter(rows_of(places)) == Counter(sequences)
    assert rows_of(places) == walked_epoch(shard_blocks, tokens, order, block_tokens, content)


@pytest.fixture(scope="module")
def order() -> Order:
    """3 shards of 5, 5 and 3 blocks, 7 sequences a block and 2 in the last: 86 an epoch."""
    return Order([5, 5, 3], 12 * 64 + 20, 64, 9, seed=3, window=4, buffer=3)


@pytest.mark.parametrize("batch_size", [8, 11, 13, 86, 100])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_global_batch_does_not_depend_on_the_ranks(order: Order, batch_size: int, world: int) -> None:
    everything = rows_of(order.locate(np.arange(20 * batch_size)))
    for step in range(20):
        shares = [np.array(share(batch_size, rank, world)) + step * batch_size for rank in range(world)]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert np.concatenate(shares).tolist() == list(range(step * batch_size, (step + 1) * batch_size))
        found = [place for samples in shares for place in rows_of(order.locate(samples))]
        assert found == everything[step * batch_size : (step + 1) * batch_size]


def test_a_batch_smaller_than_the_ranks_leaves_some_without() -> None:
    assert [len(share(3, rank, 8)) for rank in range(8)] == [0, 0, 1, 0, 0, 1, 0, 1]


def test_epochs_differ_and_so_do_seeds(order: Order) -> None:
    n = order.sequences
    assert n == 86
    epochs = [rows_of(order.locate(np.arange(e * n, (e + 1) * n))) for e in range(3)]
    other = Order([5, 5, 3], 12 * 64 + 20, 64, 9, seed=4, window=4, buffer=3)
    orders = [*epochs, rows_of(other.locate(np.arange(n)))]
    assert len({tuple(places) for places in orders}) == 4
    assert all(sorted(places) == sorted(epochs[0]) for places in orders)


def test_any_place_is_found_without_walking_there(order: Order) -> None:
    everything = rows_of(order.locate(np.arange(1000)))
    fresh = Order([5, 5, 3], 12 * 64 + 20, 64, 9, seed=3, window=4, buffer=3)
    assert rows_of(fresh.locate(np.array([999, 0, 517, 517]))) == [everything[k] for k in (999, 0, 517, 517)]


def test_a_huge_split_is_no_slower(order: Order) -> None:
    """10 T tokens: 300,000 shards; a far sample costs one permutation of each level, not a walk."""
    huge = Order([512] * 300_000, 512 * 300_000 * 65_536 - 5, 65_536, 126, seed=0, window=1024, buffer=16)
    assert huge.sequences == 512 * 300_000 * 520 - (520 - (65_536 - 5) // 126)
    samples = np.array([3 * huge.sequences - 1, 0, huge.sequences])
    assert huge.locate(samples).epoch.tolist() == [2, 0, 1]


def test_unshuffled_is_the_order_of_the_stream() -> None:
    order = Order([5, 5, 3], 12 * 64 + 20, 64, 9, seed=3, window=4, buffer=3, shuffle=False)
    assert rows_of(order.locate(np.arange(order.sequences))) == all_sequences([5, 5, 3], 12 * 64 + 20, 64, 9)


def test_shuffling_mixes_blocks_and_shards() -> None:
    """With a window and a buffer as large as the data, the order is close to a uniform permutation."""
    order = Order([8] * 8, 64 * 64, 64, 8, seed=0, window=64, buffer=64)
    places = order.locate(np.arange(order.sequences))
    stream = (places.shard * 8 + places.block) * 8 + places.row
    assert abs(np.corrcoef(stream, np.arange(512))[0, 1]) < 0.15  # three standard deviations of a random one
    assert (np.diff(stream) == 1).mean() < 0.02


def test_empty_and_impossible_splits() -> None:
    assert Order([], 0, 64, 9, seed=0).sequences == 0
    assert Order([1], 5, 64, 9, seed=0).sequences == 0
    assert Order([1], 64, 64, 100, seed=0).sequences == 0
    with pytest.raises(ValueError, match="no sequences"):
        Order([], 0, 64, 9, seed=0).locate(np.array([0]))
    with pytest.raises(ValueError, match="cannot hold"):
        Order([1, 1], 64, 64, 9, seed=0)


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x64 of ten rounds (Salmon et al. 2011, section 5.3), in Python's integers."""
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * counter[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * counter[2], 2**64)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B97F4A7C15) % 2**64, (key[1] + 0xBB67AE8584CAA73B) % 2**64]
    return counter


@pytest.mark.parametrize("size", [1, 7, 64])
def test_permutations_follow_from_the_published_generator(size: int) -> None:
    """Another order under the same seed would break resuming after an upgrade of NumPy."""
    seed, epoch, number = 2**64 - 3, 2, 5
    blocks = [philox([at + 1, 0, number, epoch], [seed, SEQUENCES]) for at in range(-(-size // 4))]
    words = [word for block in blocks for word in block]
    assert permutation(size, seed, epoch, SEQUENCES, number).tolist() == sorted(range(size), key=words.__getitem__)
    assert permutation(size, -3, epoch, SEQUENCES, number).tolist() == sorted(range(size), key=words.__getitem__)


def test_permutations_differ_by_every_argument() -> None:
    places = [(1, 2, SEQUENCES, 3), (2, 2, SEQUENCES, 3), (1, 3, SEQUENCES, 3), (1, 2, BLOCKS, 3), (1, 2, SEQUENCES, 4)]
    assert len({tuple(permutation(64, *place)) for place in places}) == 5
