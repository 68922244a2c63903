"""Shards fetched before they are needed: the order of samples is arithmetic, so the next ones are known.

A thread looks up where the coming samples lie, holds the shards that they are in now and a few more, and lets go of
those that they have passed. Price: permutations are drawn once more, by every rank (70 ns a sample of 128 tokens).
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

    locate: global samples (n,) -> numbers (n,) of their shards in `shards`; look: samples to look up at a time, one
    after each step of the range; a shard that none of them needs is let go. ahead: how many shards to fetch beyond
    those in use, by default one more than are in use. What cannot be fetched is left to whoever reads it, who raises
    the error.
    """

    def __init__(
        self, locate: Callable[[Array], Array], shards: Sequence[Remote], cache: Cache, look: range, ahead: int | None
    ) -> None:
        self._locate, self._shards, self._cache = locate, shards, cache
        self._look, self._ahead = look, ahead
        self._uses: dict[int, tuple[int, int]] = {}
        """First and last sample that is known to need a shard, in the order of the first."""
        self._done: set[int] = set()
        """The shards that are held, or could not be fetched."""
        self._now = self._known = self._wake = 0
        self._moved, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def at(self, sample: int) -> None:
        """The next sample that is read; the first call starts the thread."""
        self._now = sample
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shards-ahead", daemon=True)
            self._thread.start()
        if sample >= self._wake:
            self._moved.set()

    def close(self) -> None:
        """Lets go of all shards; a fetch that is going on ends by itself. Safe to call again."""
        self._stop.set()
        self._moved.set()
        if self._thread is not None:
            self._thread.join(PAUSE)
        for shard in list(self._done):
            self._cache.release(self._shards[shard])

    def _run(self) -> None:
        while not self._stop.is_set():
            self._moved.clear()
            done = self.catch_up(self._now)
            self._moved.wait(None if done else PAUSE)

    def catch_up(self, now: int) -> bool:
        """One pass of the thread: whether all shards that are wanted from sample `now` on are held."""
        self._wake = now + self._look.stop // 16
        self._uses = {shard: uses for shard, uses in self._uses.items() if uses[1] >= now}
        self._look_up(now)
        in_use, coming = self._parted(now)
        wanted = (in_use + coming[: self._beyond(in_use)])[:MOST]
        for shard in self._done - set(wanted):
            self._done.remove(shard)
            self._cache.release(self._shards[shard])
        self._done.update(shard for shard in wanted if shard not in self._done and self._fetch(shard))
        return self._done.issuperset(wanted)

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
            if enough and self._known >= now + self._look.stop:
                return
            samples = self._known + np.asarray(self._look, np.int64)
            shards, firsts = np.unique(found := self._locate(samples), return_index=True)
            lasts = len(found) - 1 - np.unique(found[::-1], return_index=True)[1]
            for place in np.argsort(firsts):
                shard = int(shards[place])
                first, _ = self._uses.get(shard, (int(samples[firsts[place]]), 0))
                self._uses[shard] = (first, int(samples[lasts[place]]))
            self._known += self._look.stop

    def _fetch(self, shard: int) -> bool:
        """Whether it is held, or is left to the reader."""
        try:
            return self._stop.is_set() or self._cache.hold(self._shards[shard], wait=False) is not None
        except UserError:
            return True
