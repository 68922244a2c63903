"""Where the hosts of an elastic run find each other: a store in a process of its own, apart from all hosts' agents.

It outlives every host, and listens on one address only (torch's own would listen on all). It holds the agents' account
of who takes part, and in the end the run's exit code, for hosts that come too late. Nothing in it is secret, but the
agents unpickle what they read there: who can connect can run code on the hosts. A private network is the boundary.
"""

import os
import signal
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pipeline.base.errors import EXIT_PREEMPTED, UserError

DEFAULT_PORT = 29400
READ_SECONDS = 30
"""How long one answer of the store is waited for."""
LINGER_SECONDS = 30.0
"""How long the store stays after the run's end, for agents that have not read it yet."""
STOPPING = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP", "SIGQUIT")
ENDED = "electra/ended"


@dataclass(frozen=True)
class Place:
    """Where the store listens."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One host's part in a run."""

    store: Place
    slots: int
    """Ranks on this host."""
    hosts: tuple[int, int]
    """The fewest and the most hosts that train."""
    restarts: int
    """Failures in a row that are answered with a restart."""
    patience: float
    """Seconds that the store, or the fewest hosts, are waited for."""


def parse_place(text: str, option: str) -> Place:
    """`ADDRESS` or `ADDRESS:PORT`; an address of version 6 in brackets."""
    address, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        address, port = text, str(DEFAULT_PORT)
    if not address or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(
            f"{option} {text!r} is no address. Write ADDRESS or ADDRESS:PORT, as in 10.0.0.1:{DEFAULT_PORT}."
        )
    return Place(address.strip("[]"), int(port))


def own_address(towards: str) -> str:
    """This machine's address on the way to another; UserError where there is no way."""
    try:
        kind, _, _, _, where = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(where)  # of a datagram socket: chooses the route, sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise UserError(f"this machine has no way to {towards}: {error.strerror or error}.") from None


def is_here(name: str) -> bool:
    """Whether the name is this machine's: the way to it ends at its own address."""
    try:
        return own_address(name) in {where[0] for *_, where in socket.getaddrinfo(name, 9)}
    except (OSError, UserError):
        return False


def open_store(place: Place) -> Any:
    """A torch.distributed.TCPStore served by this process, on the place's address alone, while the result is held."""
    try:
        kind, _, _, _, where = socket.getaddrinfo(place.address, place.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(kind, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(1024)
    except OSError as error:
        raise UserError(
            f"the rendezvous cannot listen on {place}: {error.strerror or error}. Give --store an address of this "
            "machine that the hosts reach, and a free port."
        ) from None
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of addresses without a name
    import torch.distributed as dist

    return dist.TCPStore(  # type: ignore[attr-defined]
        place.address, place.port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )


def serve(place: Place) -> int:
    """Serves the store until the run has ended; returns its exit code, or 75 when told to stop before."""
    store = open_store(place)
    told: list[int] = []
    for name in STOPPING:
        signal.signal(getattr(signal, name), lambda number, frame: told.append(number))
    print(f"launch: the rendezvous is open at {place}", flush=True)
    end = None
    while not told:
        time.sleep(0.5)
        if end is None and store.check([ENDED]):
            end = time.monotonic() + LINGER_SECONDS
        if end is not None and time.monotonic() > end:
            break
    return int(store.get(ENDED)) if store.check([ENDED]) else EXIT_PREEMPTED


def note_end(place: Place, code: int) -> None:
    """Leaves the run's exit code in the store."""
    _client(place).set(ENDED, str(code))


def noted_end(place: Place) -> int:
    """The exit code of a run that is over; 75 where none was left."""
    store = _client(place)
    return int(store.get(ENDED)) if store.check([ENDED]) else EXIT_PREEMPTED


def _client(place: Place) -> Any:
    import torch.distributed as dist

    patience = timedelta(seconds=READ_SECONDS)
    return dist.TCPStore(place.address, place.port, is_master=False, timeout=patience)  # type: ignore[attr-defined]
