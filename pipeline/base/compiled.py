"""Loops over arrays, compiled by Numba for the processor at hand: many times as fast as Python's own.

The machine code is kept beside the source (in NUMBA_CACHE_DIR where that is set), or in the user's cache where nothing
can be written there; `make setup` makes it. It is made anew where a source of the same folder, or the processor, is
another. Import a module of compiled functions late: Numba takes 0.3 s to load. Price: no exceptions and no strings in
such a function, and integers that wrap.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function, compiled at its first call for the types of its arguments."""
    folder = Path(function.__code__.co_filename).parent
    before = numba.config.CACHE_DIR
    # Numba looks at the function's own file alone, though its code has what it calls and names in it.
    numba.config.CACHE_DIR = str(Path(before or folder / "__pycache__") / f"loops-{_digest(folder)}")
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder to keep machine code in can be written
        return cast(Function, numba.njit(nogil=True)(function))
    finally:
        numba.config.CACHE_DIR = before


@cache
def _digest(folder: Path) -> str:
    """Of the folder's sources."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
