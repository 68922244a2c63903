"""Loops over arrays, compiled by Numba for the processor at hand: a hundred times as fast as Python's own.

The machine code is kept beside the source, or in the user's cache where that cannot be written, and is made anew where
the source or the processor is another. Import a module of compiled functions late: Numba takes 0.3 s to load, and the
first call ever of a function some seconds. Price: no exceptions and no strings in such a function, integers that wrap.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function, compiled at its first call for the types of its arguments."""
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder to keep machine code in can be written
        return cast(Function, numba.njit(nogil=True)(function))
