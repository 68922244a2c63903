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

MOST = 256
"""Shards held at a time, each by an open file."""
PAUSE = 0.25
"""Seconds until a shard is asked for again that another process fetches, or that there is no room for."""


class Ahead:
    """Keeps the shards of the samples from `at` on.

    locate: global samples (n,) -> numbers (n,) of their shards in `shards`; look: how many samples to look up at a
    time, a shard that none of the next ones needs is let go; ahead: how many shards to fetch beyond those in use, by
    default one more than are in use. What cannot be fetched is left to whoever reads it, who raises the error.
    """

    def __init__(
        self, locate: Callable[[Array], Array], shards: Sequence[Remote], cache: Cache, look: int, ahead: int | None
    ) -> None:
        self._locate, self._shards, self._cache = locate, shards, cache
        self._look, self._ahead = look, ahead
        self._uses: dict[int, tuple[int, int]] = {}
        """First and last sample that is known to need a shard, in the order of the first."""
        self._wanted: list[int] = []
        """The shards that are held, or are to be."""
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
        for shard in self._wanted:
            self._cache.release(self._shards[shard])

    def _run(self) -> None:
        while not self._stop.is_set():
            self._moved.clear()
            done = self.catch_up(self._now)
            self._moved.wait(None if done else PAUSE)

    def catch_up(self, now: int) -> bool:
        """One pass of the thread: whether all shards that are wanted from sample `now` on are held."""
        self._uses = {shard: uses for shard, uses in self._uses.items() if uses[1] >= now}
        self._given_up &= self._uses.keys()
        self._look_up(now)
        in_use, coming = self._parted(now)
        wanted = (in_use + coming[: self._beyond(in_use)])[:MOST]
        for shard in set(self._wanted) - set(wanted):
            self._cache.release(self._shards[shard])
        self._wanted = wanted
        waiting = sum(not self._fetch(shard) for shard in wanted)
        return waiting == 0

    def _parted(self, now: int) -> tuple[list[int], list[int]]:
        """The known shards in use, and those needed first after `now`."""
        coming = [shard for shard, (first, _) in self._uses.items() if first > now]
        return [shard for shard in self._uses if shard not in set(coming)], coming

    def _beyond(self, in_use: Sequence[int]) -> int:
        return len(in_use) + 1 if self._ahead is None else self._ahead

    def _look_up(self, now: int) -> None:
        """Looks up samples until the next `look` ones are known, and enough shards beyond those in use, or all."""
        self._known = max(self._known, now)
        while not self._stop.is_set():
            in_use, coming = self._parted(now)
            enough = len(coming) >= self._beyond(in_use) or len(self._uses) >= min(MOST, len(self._shards))
            if enough and self._known >= now + self._look:
                return
            found = self._locate(np.arange(self._known, self._known + self._look))
            shards, firsts = np.unique(found, return_index=True)
            lasts = len(found) - 1 - np.unique(found[::-1], return_index=True)[1]
            for place in np.argsort(firsts):
                shard = int(shards[place])
                first, _ = self._uses.get(shard, (self._known + int(firsts[place]), 0))
                self._uses[shard] = (first, self._known + int(lasts[place]))
            self._known += self._look

    def _fetch(self, shard: int) -> bool:
        """Whether there is nothing more to do for the shard."""
        if self._stop.is_set() or shard in self._given_up:
            return True
        try:
            return self._cache.hold(self._shards[shard], wait=False) is not None
        except UserError:
            self._given_up.add(shard)
            return True
