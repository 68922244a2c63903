"""What the ranks know of each other: hosts, processes, and heartbeats in the store where they met.

A rank that dies closes its connections, which ends a collective with an error; a host that is cut off sends nothing,
and a collective waits for half an hour. So each rank writes a count into the store every second, by a thread and a
connection of its own, and reads the others'. A beat also carries where the rank is and whether it was asked to stop or
hangs. Price: a message of about 100 bytes a rank and second, and the store's answer with all ranks' news.
"""

import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import torch.distributed as dist

from pipeline.base.processes import birth_of
from pipeline.training.launcher import DEEPSPEEDS, ELASTIC

BEAT_SECONDS = 1.0
RANKS_A_SECOND = 64
"""Of larger worlds the beats are rarer: the store answers every rank with the news of all."""
LATE_BEATS = 5
"""A rank without so many beats is taken for the one that has closed its connections."""
GLOO = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "NCCL")


class Lost(Exception):
    """What a thread tells its peers by is of no use any more: one does not answer (see its cause)."""


def is_peer_error(error: BaseException) -> bool:
    """Whether a collective, or the store, has failed because another process or the network is gone."""
    if isinstance(error, Lost):
        return error.__cause__ is not None and is_peer_error(error.__cause__)
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in GLOO)


@dataclass(frozen=True)
class News:
    """What a rank tells with each beat."""

    beat: int = 0
    place: str = "the start"
    """Where it is, such as "step 12: gradients"."""
    stop: float | None = None
    """Seconds that are left to it, once it was asked to stop."""
    hangs: bool = False
    left: bool = False
    """It ends by itself and sends no more."""
    missing: list[int] = field(default_factory=list)
    """Ranks without which it could not go on."""


class Member(NamedTuple):
    """Where a rank runs."""

    host: str
    address: str
    """By which the others reach it, as a hostfile may name it; empty where it cannot be told."""
    process: int
    birth: int | None

    @classmethod
    def own(cls) -> "Member":
        """This process."""
        return cls(socket.gethostname(), own_address(os.environ["MASTER_ADDR"]), os.getpid(), birth_of(os.getpid()))


class Peers:
    """The members of one job, seen from one of them."""

    def __init__(self, rank: int, members: Sequence[Member], store: Any = None) -> None:
        """store: of torch, shared by the ranks and used by nothing else; its connection serves one thread."""
        self.rank, self.members, self.store = rank, members, store
        self.news = [News() for _ in members]
        self.silence = [0.0 for _ in members]
        """Seconds since each rank's last beat, this process's own pauses left out."""
        self.unanswered = 0.0
        """Seconds since the store's last answer."""
        self.own = News()
        self.interval = max(BEAT_SECONDS, len(members) / RANKS_A_SECOND)
        self._local = [
            member.host == members[rank].host and member.birth is not None and birth_of(member.process) == member.birth
            for member in members
        ]
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """The first beat; its key is there when this returns."""
        self.tell(beat=1)
        self._write()
        self._thread.start()

    def tell(self, **news: Any) -> None:
        """What the next beats carry. Any thread may call it."""
        with self._lock:
            self.own = News(**(asdict(self.own) | news))

    def leave(self, missing: Sequence[int] = ()) -> None:
        """Ends the beats; the others do not miss this rank. Waits a moment for the store."""
        self.tell(left=True, missing=list(missing))
        self._stop.set()
        self._thread.join(3 * self.interval)

    def pass_time(self, seconds: float) -> None:
        """Counts the store's silence, from another thread than the one that waits for it."""
        self.unanswered += seconds

    def lost(self, seconds: float) -> list[int]:
        """Ranks that have ended without a word, or from whose host nothing has come for so long."""
        if self.unanswered > seconds and self.rank != 0 and not self.news[0].left:
            return [0]  # it keeps the store
        return [
            rank
            for rank, (news, silence) in enumerate(zip(self.news, self.silence, strict=True))
            if rank != self.rank and not news.left and (silence > seconds or self.dead(rank))
        ]

    def blamed(self, patience: float) -> list[int]:
        """Whose end has broken a collective: waits until it shows, at most `patience` seconds. Empty: it does not."""
        until = time.monotonic() + patience
        while True:
            found = self.lost(min(patience, LATE_BEATS * self.interval))
            found = found or sorted({rank for news in self.news for rank in news.missing if rank != self.rank})
            if found or time.monotonic() > until:
                return found or [rank for rank, news in enumerate(self.news) if news.left]
            time.sleep(0.1)

    def dead(self, rank: int) -> bool:
        """Whether its process, on this host, has ended."""
        member = self.members[rank]
        return self._local[rank] and birth_of(member.process) != member.birth

    def tells(self, lost: Sequence[int]) -> bool:
        """Whether this rank is the first of its host that is left: one line a host is enough."""
        own = self.members[self.rank].host
        left = (rank for rank, member in enumerate(self.members) if member.host == own and rank not in lost)
        return next(left, self.rank) == self.rank

    def sentence(self, lost: Sequence[int], place: str, seconds: float) -> str:
        """One sentence: who is gone, since when, and what to do. place: where this rank is."""
        if not lost:
            who = "the connection to another rank broke"
        else:
            silent = [rank for rank in lost if self._local[rank] and not self.dead(rank)]
            how = f"silent for {seconds:.0f} s (the process is there but does not run)" if silent else "gone"
            how = "at an end by its own error" if self.news[lost[0]].left else how
            who = f"{self._named(lost)} {'is' if self._is_one(lost) else 'are'} {how} since {place.partition(':')[0]}"
        hosts = {self.members[rank].host for rank in lost} - {self.members[self.rank].host}
        if ELASTIC in os.environ:
            return f"{who}; the launcher starts the ranks again from the newest checkpoint, on the hosts that are left."
        if hosts:
            names = " and ".join(sorted(hosts))
            again = shlex.join(["deepspeed", "--hostfile", "HOSTFILE", *launched()])
            how = f"start again: {again}" if DEEPSPEEDS in os.environ else GOES_ON
            return f"{who}. Take {names} out of the hostfile unless it is back; {how}"
        return f"{who}; {GOES_ON}"

    def places(self) -> str:
        """Which rank waits where, ranks at the same place together."""
        by_place: dict[str, list[int]] = {}
        for rank, news in enumerate(self.news):
            silent = rank != self.rank and self.silence[rank] > LATE_BEATS * self.interval
            place = self.own.place if rank == self.rank else news.place
            place += f" (silent for {self.silence[rank]:.0f} s: no stacks of it)" if silent else ""
            if not news.left:
                by_place.setdefault(place, []).append(rank)
        return "; ".join(f"{self._named(ranks)} at {place}" for place, ranks in by_place.items())

    def _named(self, ranks: Sequence[int]) -> str:
        hosts = {self.members[rank].host for rank in ranks}
        if len(hosts) == 1:
            host = hosts.pop()
            address = self.members[ranks[0]].address if host != self.members[self.rank].host else ""
            whole = [rank for rank, member in enumerate(self.members) if member.host == host] == list(ranks)
            if whole and len(ranks) < len(self.members):
                return f"host {host} ({', '.join(filter(None, (address, _numbered(ranks))))})"
            return f"{_numbered(ranks)} on host {host}{f' ({address})' if address else ''}"
        return _numbered(ranks)

    def _is_one(self, ranks: Sequence[int]) -> bool:
        return len(ranks) == 1 or self._named(ranks).startswith("host")

    def _beat(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(self.interval):
            self.tell(beat=self.own.beat + 1)
            with suppress(dist.DistError, RuntimeError, ValueError):
                self._write()
                self._read(min(time.monotonic() - before, 2 * self.interval))
                before = time.monotonic()
        with suppress(dist.DistError, RuntimeError):
            self._write()

    def _write(self) -> None:
        self.store.set(str(self.rank), json.dumps(asdict(self.own)))

    def _read(self, passed: float) -> None:
        texts = self.store.multi_get([str(rank) for rank in range(len(self.members))])
        self.unanswered = 0.0
        for rank, text in enumerate(texts):
            news = News(**json.loads(text))
            beaten = news.beat != self.news[rank].beat
            self.news[rank] = news
            self.silence[rank] = 0.0 if beaten else self.silence[rank] + passed


GOES_ON = "the same command goes on from the newest checkpoint."


def meet_peers(rank: int, members: Sequence[Member], token: str, seconds: float) -> Peers:
    """Joins the heartbeats of a job, in the store at MASTER_ADDR:MASTER_PORT; `token` is the start's own."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=max(1.0, seconds))
    )
    own = dist.PrefixStore(f"heartbeats/{token}", store)  # type: ignore[attr-defined]
    peers = Peers(rank, members, own)
    peers.start()
    return peers


def own_address(towards: str) -> str:
    """This machine's address on the way to another one; empty where it cannot be told."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, 9))  # of a datagram socket: chooses the route, sends nothing
        return str(probe.getsockname()[0])
    return ""


def launched() -> list[str]:
    """The words after the launcher's own ones in the command that started this rank."""
    return [word for word in sys.argv if not word.startswith("--local_rank")]


def _numbered(ranks: Sequence[int]) -> str:
    """`rank 3`, `ranks 0-2, 5`."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and runs[-1][-1] == rank - 1:
            runs[-1] = [runs[-1][0], rank]
        else:
            runs.append([rank])
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join('-'.join(map(str, run)) for run in runs)}"
