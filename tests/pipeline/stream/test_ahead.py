"""Shards ahead of need: what the next samples need is held, a few more are, and nothing that they have passed."""

import time
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import UserError
from pipeline.stream.ahead import Ahead
from pipeline.stream.cache import Cache, Remote, RemoteFile
from pipeline.stream.order import Array, Order

LOOK = 16


class Held(Cache):
    """A cache that remembers what is held; `room` of them at most without waiting."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__(Path("nowhere"), 0)
        self.now: set[str] = set()
        self.room = room
        self.broken: set[str] = set()

    def hold(self, remote: Remote, wait: bool = True) -> Path | None:
        name = remote.files[0].name
        if name in self.broken:
            raise UserError("broken")
        if name not in self.now and len(self.now) >= self.room:
            return None
        self.now.add(name)
        return self.folder

    def release(self, remote: Remote) -> None:
        self.now.discard(remote.files[0].name)


def shards(count: int) -> list[Remote]:
    return [Remote(Path("store"), (RemoteFile(str(number), 1, ""),)) for number in range(count)]


def make(order: Order, cache: Cache, ahead: int | None, look: range = range(LOOK)) -> Ahead:
    return Ahead(lambda samples: order.locate(samples).shard, shards(len(order.shard_blocks)), cache, look, ahead)


def by_first_need(order: Order, sample: int) -> list[str]:
    """All shards in the order in which samples from `sample` on need them, found by walking."""
    names: dict[str, None] = {}
    while len(names) < len(order.shard_blocks):
        names.update(dict.fromkeys(str(shard) for shard in order.locate(np.arange(sample, sample + 50)).shard))
        sample += 50
    return list(names)


@given(
    count=st.integers(1, 9),
    blocks=st.integers(1, 6),
    window=st.integers(1, 12),
    start=st.integers(0, 2000),
    step=st.integers(1, 40),
    ahead=st.none() | st.integers(1, 4),
)
def test_the_next_shards_are_held_and_those_passed_are_not(
    count: int, blocks: int, window: int, start: int, step: int, ahead: int | None
) -> None:
    order = Order([blocks] * count, count * blocks * 32, 32, 8, seed=3, window=window, buffer=2)
    cache = Held()
    keeper = make(order, cache, ahead)
    for sample in range(start, start + 10 * step, step):
        assert keeper.catch_up(sample)
        needed = by_first_need(order, sample)
        assert needed[0] in cache.now
        assert set(needed[: 1 + (ahead or 1)]) <= cache.now
        soon = {str(shard) for shard in order.locate(np.arange(sample, sample + 2 * LOOK)).shard}
        assert cache.now <= soon | set(needed[: len(soon) + 1 + (ahead or count)])
    keeper.close()
    assert not cache.now


def test_no_more_are_held_than_asked_for() -> None:
    """Shards of 4 blocks in windows of 4: one shard at a time is in use, of 16 samples."""
    order = Order([4] * 40, 40 * 128, 32, 8, seed=3, window=4, buffer=2)
    cache = Held()
    keeper = make(order, cache, ahead=6)
    for sample in range(0, 600, 8):
        assert keeper.catch_up(sample)
        assert len(cache.now) == 1 + 6


def test_without_room_it_tries_again_and_a_broken_one_is_left_to_the_reader() -> None:
    order = Order([4] * 10, 10 * 128, 32, 8, seed=3, window=4, buffer=2)
    first, second, third, *_ = by_first_need(order, 0)
    cache = Held(room=2)
    keeper = make(order, cache, ahead=2)
    assert not keeper.catch_up(0)
    assert cache.now == {first, second}
    cache.room = 1000
    cache.broken = {third}
    assert keeper.catch_up(0)
    assert third not in cache.now
    cache.broken = set()
    assert keeper.catch_up(0)
    assert third not in cache.now  # until it has been passed and comes again
    assert keeper.catch_up(order.sequences)
    again = next(k for k in range(order.sequences, 400) if str(order.locate(np.array([k])).shard[0]) == third)
    assert keeper.catch_up(again)
    assert third in cache.now


def test_the_thread_follows_the_position() -> None:
    order = Order([4] * 10, 10 * 128, 32, 8, seed=3, window=4, buffer=2)
    cache = Held()
    keeper = make(order, cache, ahead=1)
    keeper.close()  # before it has begun
    keeper = make(order, cache, ahead=1)
    for sample in (0, 500, 10_000):
        keeper.at(sample)
        name = str(order.locate(np.array([sample])).shard[0])
        deadline = time.monotonic() + 60
        while name not in cache.now and time.monotonic() < deadline:
            time.sleep(0.001)
        assert name in cache.now
    keeper.close()
    keeper.close()
    assert not cache.now


def test_a_look_up_may_pass_over_samples() -> None:
    order = Order([4] * 40, 40 * 512, 128, 8, seed=3, window=4, buffer=2)
    cache = Held()
    keeper = make(order, cache, ahead=3, look=range(0, 64, 4))
    for sample in range(0, 2400, 8):
        assert keeper.catch_up(sample)
        assert set(by_first_need(order, sample)[:3]) <= cache.now
        assert len(cache.now) <= 6


def test_places_are_the_callers() -> None:
    """Numbers of shards across several corpora are the caller's: any function of samples will do."""

    def locate(samples: Array) -> Array:
        return samples // 100 % 3

    cache = Held()
    keeper = Ahead(locate, shards(3), cache, look=range(50), ahead=1)
    assert keeper.catch_up(150)
    assert cache.now == {"1", "2"}
