"""Shards fetched before they are needed: the order of samples is arithmetic, so the next ones are known.

A thread looks up where the coming samples lie, holds the shards that they are in now and a few more, and lets go of
those that they have passed. Price: a look-up of every sample once more (some 10 ns each), by every rank of a host.
"""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.base.errors import UserError
from pipeline.stream.cache import Cache, Remote
from pipeline.stream.order import Array

LOOK = 1 << 16
"""Samples looked up at a time, and at least known of the future: a shard that none of them needs is let go."""
MOST = 256
"""Shards held at a time, each by an open file."""
PAUSE = 0.25
"""Seconds until a shard is asked for again that another process fetches, or that there is no room for."""


class Ahead:
    """Keeps the shards of the samples from `at` on.

    locate: global samples (n,) -> numbers (n,) of their shards in `shards`; ahead: how many to fetch beyond those in
    use, by default one more than are in use. What cannot be fetched is left to whoever reads it, who raises the error.
    """

    def __init__(
        self, locate: Callable[[Array], Array], shards: Sequence[Remote], cache: Cache, ahead: int | None
    ) -> None:
        self._locate, self._shards, self._cache, self._ahead = locate, shards, cache, ahead
        self._uses: dict[int, tuple[int, int]] = {}
        """First and last sample that is known to need a shard, in the order of the first."""
        self._given_up: set[int] = set()
        self._now = self._known = 0
        self._moved, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def at(self, sample: int) -> None:
        """The next sample that is read; the first call starts the thread."""
        self._now = sample
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shards-ahead", daemon=True)
            self._thread.start()
        self._moved.set()

    def close(self) -> None:
        """Lets go of all shards; a fetch that is going on ends by itself. Safe to call again."""
        self._stop.set()
        self._moved.set()
        if self._thread is not None:
            self._thread.join(PAUSE)
        for shard in list(self._uses):
            self._cache.release(self._shards[shard])

    def _run(self) -> None:
        while not self._stop.is_set():
            self._moved.clear()
            done = self.catch_up(self._now)
            self._moved.wait(None if done else PAUSE)

    def catch_up(self, now: int) -> bool:
        """One pass of the thread: whether all shards that are wanted from sample `now` on are held."""
        self._let_go(now)
        self._look(now)
        waiting = sum(not self._fetch(shard) for shard in list(self._uses)[:MOST])
        return waiting == 0

    def _let_go(self, now: int) -> None:
        for shard in [shard for shard, (_, last) in self._uses.items() if last < now]:
            del self._uses[shard]
            self._given_up.discard(shard)
            self._cache.release(self._shards[shard])

    def _look(self, now: int) -> None:
        """Looks up samples until the next LOOK ones are known and enough shards beyond those in use, or all shards."""
        self._known = max(self._known, now)
        while not self._stop.is_set():
            coming = sum(first > now for first, _ in self._uses.values())
            wanted = self._ahead if self._ahead is not None else len(self._uses) - coming + 1
            enough = coming >= wanted or len(self._uses) >= min(MOST, len(self._shards))
            if enough and self._known >= now + LOOK:
                return
            samples = np.arange(self._known, self._known + LOOK)
            found = self._locate(samples)
            shards, firsts = np.unique(found, return_index=True)
            lasts = len(found) - 1 - np.unique(found[::-1], return_index=True)[1]
            for place in np.argsort(firsts):
                shard = int(shards[place])
                first, _ = self._uses.get(shard, (self._known + int(firsts[place]), 0))
                self._uses[shard] = (first, self._known + int(lasts[place]))
            self._known += LOOK

    def _fetch(self, shard: int) -> bool:
        """Whether there is nothing more to do for the shard."""
        if self._stop.is_set() or shard in self._given_up:
            return True
        try:
            return self._cache.hold(self._shards[shard], wait=False) is not None
        except UserError:
            self._given_up.add(shard)
            return True
