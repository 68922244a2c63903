"""The lease of a store: an object, lease.json, that names the one process which writes there. Others are refused.

It is made by a put that the store refuses where there is an object (S3, Google), and renewed in a thread. One that was
not renewed for STALE_SECONDS, by the store's own clock, or whose process is dead on this machine, is taken over. Who
was away for so long and finds another's lease, or none, has lost its own and writes no more: `check_lease` comes
before each checkpoint and manifest. Price: two small requests every RENEW_SECONDS, one before each of these writes; a
store that does not know such puts is waited for SETTLE_SECONDS at the start, and what a moment lets through there ends
at the next look.
"""

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import Preempted, UserError
from pipeline.base.files import is_remote
from pipeline.base.log import get_logger
from pipeline.base.processes import birth_of, machine
from pipeline.base.storage import reading, system_of, writing
from pipeline.base.stores.faults import status_of

if TYPE_CHECKING:
    from upath import UPath

    from pipeline.base.storage import Location

NAME = "lease.json"
RENEW_SECONDS = 60.0
STALE_SECONDS = 300.0
"""Longer than a store may be away for a call, and the pauses of a busy machine."""
SETTLE_SECONDS = 5.0
POLL_SECONDS = 1.0
RELEASE_SECONDS = 10.0
"""Most that the end of a run waits for a store that does not answer: the lease then ends by itself."""
_CONFLICT, _UNKNOWN = 409, 501
"""HTTP: another put is under way; the store does not know such puts."""
_HELD: dict[str, "Lease"] = {}
"""Of this process, by the store's URL."""


class Lease:
    """This process's lease of a store. lost: why it may not write any more; empty while it may."""

    def __init__(self, store: "UPath", on_lost: Callable[[], None]) -> None:
        self.store, self.place, self.lost = store, store / NAME, ""
        self.body = (json.dumps({**_own(), "token": secrets.token_hex(16)}) + "\n").encode()
        self._on_lost = on_lost
        self._wake, self._lock, self._ended = threading.Event(), threading.Lock(), False
        self._thread = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)

    def take(self, patience: float = 0.0) -> None:
        """Makes the lease and keeps it renewed. UserError where another process holds it for longer than `patience`."""
        began, told = time.monotonic(), False
        while (found := self._read()) != self.body:
            if found is None:
                self._create()
                continue
            age = self._age()
            if _is_dead(found) or age > STALE_SECONDS:
                if self._read() == found:  # and not another's that was quicker
                    get_logger().warning(f"{self.place} is {_holder(found)}, which is gone: taken over")
                    self._remove()
                continue
            if time.monotonic() - began >= patience:
                raise UserError(self._refusal(found, age))
            if not told:
                told = True
                print(f"{self.store} is {_holder(found)}: waiting up to {patience:.0f} s", file=sys.stderr, flush=True)
            time.sleep(POLL_SECONDS)
        self._thread.start()

    def check(self) -> None:
        """UserError where the lease is another's by now, or gone; one request."""
        found = self._read()
        if found != self.body and not self.lost:
            now = f"it is {_holder(found)}" if found is not None else "another run has been there meanwhile"
            self.lost = (
                f"this run no longer holds the store {self.store}: {now}. It was away for more than "
                f"{STALE_SECONDS:.0f} s, or somebody removed {self.place}. Its last steps are not saved; once nothing "
                "else writes there, start the same command again."
            )
            self._ended |= threading.current_thread() is threading.main_thread()  # which learns of it here
            self._wake.set()
        if self.lost:
            raise UserError(self.lost)

    def release(self, seconds: float = RELEASE_SECONDS) -> None:
        """Removes the lease, if it is still this process's; does not wait longer than so many seconds."""
        self._ended = True
        self._wake.set()
        thread = threading.Thread(target=self._release, daemon=True)
        thread.start()
        thread.join(seconds)

    def _release(self) -> None:
        with self._lock, suppress(UserError):
            if self._read() == self.body:
                self._remove()

    def _renew_until_released(self) -> None:
        while True:
            self._wake.wait(RENEW_SECONDS)
            try:
                with self._lock:
                    if self._ended:
                        return
                    self.check()
                    self._write(self.body)
            except UserError as error:
                if not self.lost:  # the store is away: for others too
                    get_logger().warning(f"the lease is not renewed: {error}")
                    continue
                get_logger().error(self.lost)
                self._on_lost()
                return

    def _create(self) -> None:
        """Puts the lease where there is none; `take` reads back whose it became."""
        with writing(self.place):
            if self._put_new() and self._put_new():  # the second one must be refused
                time.sleep(SETTLE_SECONDS)  # for what others have put since they saw that there was none

    def _put_new(self) -> bool:
        """Whether the store took it; one that knows no such puts takes it always."""
        try:
            system_of(self.place).pipe_file(self.place.path, self.body, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            if status_of(error) == _CONFLICT:
                time.sleep(POLL_SECONDS)
                return False
            if status_of(error) != _UNKNOWN:
                raise
            self._write(self.body)
        return True

    def _write(self, body: bytes, name: str = NAME) -> None:
        place = self.store / name
        with writing(place):
            system_of(place).pipe_file(place.path, body)

    def _read(self) -> bytes | None:
        with reading(self.place):
            try:
                return bytes(system_of(self.place).cat_file(self.place.path))
            except FileNotFoundError:
                return None

    def _remove(self, name: str = NAME) -> None:
        place = self.store / name
        with writing(place), suppress(FileNotFoundError):
            system_of(place).rm_file(place.path)

    def _age(self) -> float:
        """Seconds since the lease was written, by the store's clock; 0 where it is gone."""
        name = f"lease-{secrets.token_hex(8)}.time"
        self._write(b"", name)
        try:
            with reading(self.place), suppress(FileNotFoundError):
                system = system_of(self.place)
                now = system.modified((self.store / name).path)
                return float((now - system.modified(self.place.path)).total_seconds())
            return 0.0
        finally:
            self._remove(name)

    def _refusal(self, found: bytes, age: float) -> str:
        return (
            f"the store {self.store} is {_holder(found)}. Wait for it, stop it, or set another store. If that process "
            f"is gone with its machine, start again in {max(1.0, STALE_SECONDS - age):.0f} s: its last sign of life "
            f"is {max(0.0, age):.0f} s old."
        )


@contextmanager
def hold_store(
    store: "Location | None", on_lost: Callable[[], None], patience: float = 0.0
) -> Iterator["Lease | None"]:
    """Holds the store's lease; nothing where it is no store, but a folder. UserError where another process has it.

    on_lost: called in a thread that finds the lease lost; what then ends the stage is told as that.
    """
    if store is None or not is_remote(store):
        yield None
        return
    lease = Lease(store, on_lost)
    lease.take(patience)
    _HELD[str(store)] = lease
    try:
        yield lease
    except (UserError, Preempted, KeyboardInterrupt) as error:
        if not lease.lost:
            raise
        raise UserError(lease.lost) from error
    finally:
        del _HELD[str(store)]
        lease.release()


def check_lease(store: "Location | None") -> None:
    """UserError where this process held the store's lease and has lost it. Before anything that others read is put."""
    if (lease := _HELD.get(str(store))) is not None:
        lease.check()


def _own() -> dict[str, Any]:
    """This process, as its lease names it."""
    since = time.strftime("%F %T UTC", time.gmtime())
    process = os.getpid()
    return {
        "host": socket.gethostname(),
        "process": process,
        "since": since,
        "kernel": machine(),
        "birth": birth_of(process),
    }


def _parsed(body: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(body), dict):
            return found
    return {}


def _holder(body: bytes) -> str:
    found = _parsed(body)
    process, host, since = (str(found.get(key, "?"))[:100] for key in ("process", "host", "since"))
    return f"written by process {process} on {host} since {since}"


def _is_dead(body: bytes) -> bool:
    """Whether the holder ran on this machine and is there no more; unknown counts as alive."""
    found = _parsed(body)
    process, birth = found.get("process"), found.get("birth")
    if not isinstance(process, int) or not isinstance(birth, int) or not found.get("kernel"):
        return False
    return bool(found["kernel"] == machine()) and birth_of(process) != birth
