"""What all stores have in common: calls wait while a store is away, a fork gets connections of its own, "no" means no.

Price: the libraries' own retries are turned down (s3.py, gs.py), so that waits do not multiply.
"""

import asyncio
import functools
import inspect
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from fsspec.asyn import AsyncFileSystem, get_loop, sync_wrapper

from pipeline.base.stores.faults import Patience, status_of

CONNECT_SECONDS, READ_SECONDS = 10, 60
"""How long one try waits for a connection, and for the next bytes."""
BLOCK = 8 << 20
"""Bytes that a file opened with fsspec reads or writes at a time."""

_TRIED = ("call_s3", "call", "cat_file", "cp_file", "find", "info", "ls", "lsdir", "pipe_file", "put_file", "rm")
"""What is tried again: the calls that everything else in these libraries is made of."""
_ASKED = ("exists", "isdir", "isfile")
System = TypeVar("System", bound=type)


def patient(system: System) -> System:
    """Decorates a file system of fsspec: its calls wait for a store that is away (faults.py says how long)."""
    is_async = issubclass(system, AsyncFileSystem)
    for name in _TRIED:
        own = f"_{name}" if is_async else name
        if hasattr(system, own):
            setattr(system, own, _patient(getattr(system, own)))
    for name in (*_TRIED, *_ASKED) if is_async else ():
        if hasattr(system, f"_{name}"):  # a class may hold a version for threads made from what it had before
            setattr(system, name, sync_wrapper(getattr(system, f"_{name}")))
    return system


def is_absent(error: FileNotFoundError) -> bool:
    """Whether the store itself said that there is nothing; some libraries say so too when they could not ask."""
    return status_of(error) in (None, 404)


class PlainAnswers(AsyncFileSystem):
    """For a class of fsspec with a loop of its own: asks plainly whether a thing exists, and survives a fork."""

    _pid: int

    async def _kind(self, path: str) -> str | None:
        try:
            return str((await self._info(path))["type"])
        except FileNotFoundError as error:
            if is_absent(error):
                return None
            raise

    async def _exists(self, path: str, **kwargs: Any) -> bool:
        return await self._kind(path) is not None

    async def _isdir(self, path: str) -> bool:
        return await self._kind(path) == "directory"

    async def _isfile(self, path: str) -> bool:
        return await self._kind(path) == "file"

    @property
    def loop(self) -> Any:
        """The event loop of this process: a forked one gets its own, and connections of its own."""
        if self._pid != os.getpid():
            for name in ("_s3", "session", "_session"):
                if hasattr(self, name):
                    setattr(self, name, None)
            if hasattr(self, "_set_session_lock"):
                self._set_session_lock = asyncio.Lock()
            self._loop = get_loop()
            self._pid = os.getpid()
        return self._loop


def _where(system: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    protocol = system.protocol if isinstance(system.protocol, str) else system.protocol[0]
    if "Bucket" in kwargs:
        return f"{protocol}://{kwargs['Bucket']}/{kwargs.get('Key') or kwargs.get('Prefix') or ''}"
    name = str(kwargs.get("path") or next((value for value in reversed(args) if isinstance(value, str)), ""))
    return name if "://" in name else f"{protocol}://{name}"


def _patient(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, called again while the store is away."""

    @functools.wraps(method)
    async def tried_aside(self: Any, *args: Any, **kwargs: Any) -> Any:
        with Patience(_where(self, args, kwargs)) as patience:
            while True:
                try:
                    return await method(self, *args, **kwargs)
                except Exception as error:
                    pause = patience.pause_after(error)
                    if pause is None:
                        raise
                await asyncio.sleep(pause)

    @functools.wraps(method)
    def tried(self: Any, *args: Any, **kwargs: Any) -> Any:
        with Patience(_where(self, args, kwargs)) as patience:
            while True:
                try:
                    return method(self, *args, **kwargs)
                except Exception as error:
                    pause = patience.pause_after(error)
                    if pause is None:
                        raise
                time.sleep(pause)

    return tried_aside if inspect.iscoroutinefunction(method) else tried
