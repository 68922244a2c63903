"""Loops over arrays, compiled by Numba for the processor at hand: many times as fast as Python's own.

The machine code is kept beside the source (in NUMBA_CACHE_DIR where that is set), or in the user's cache where nothing
can be written there; `make setup` makes it. It is made anew where a source of the same folder, or the processor, is
another; beside the source, what was made of older ones is removed then. Import a module of compiled functions late:
Numba takes 0.3 s to load. Price: no exceptions and no strings in such a function, and integers that wrap.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function, compiled at its first call for the types of its arguments."""
    dispatcher = numba.njit(nogil=True)(function)
    place = _place(Path(function.__code__.co_filename).parent)
    if place is not None:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(place)
        try:
            dispatcher._cache = _Kept(function)
        finally:
            numba.config.CACHE_DIR = before
    return cast(Function, dispatcher)


class _Kept(FunctionCache):
    """Numba's cache, for processes that compile at the same time, and on a disk that may be full."""

    def save_overload(self, sig: Any, data: Any) -> None:
        """Numba picks the first free name of a file without a lock: two kinds of arguments could get the same."""
        with suppress(OSError), open(Path(self.cache_path) / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            super().save_overload(sig, data)


@cache
def _place(folder: Path) -> Path | None:
    """Where the machine code of a folder's loops is kept; None where nothing can be written.

    Numba looks at a function's own file alone, though its code has what it calls and names in it: so the name has a
    digest of all sources of the folder.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.read_bytes())
    for base in _bases(folder):
        place = base / f"loops-{digest.hexdigest()[:16]}"
        with suppress(OSError):
            new = not place.is_dir()
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
            if new and base == _beside(folder):
                _remove_others(place)
            return place
    return None


def _remove_others(place: Path) -> None:
    """Removes what older sources have left. A process that runs them compiles what it does not find any more."""
    for other in place.parent.glob("loops-*"):
        if other != place:
            shutil.rmtree(other, ignore_errors=True)


def _beside(folder: Path) -> Path:
    """A place for this folder's loops alone; the others hold those of several folders."""
    return folder / "__pycache__"


def _bases(folder: Path) -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
        return
    yield _beside(folder)
    with suppress(RuntimeError):  # no home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "electra"
