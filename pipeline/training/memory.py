"""Memory of a rank on a CPU: what is freed stays with the process.

glibc gives freed memory back to the system at the end of every step, and the next one touches it anew, 4 KiB at a
time: an eighth of a small model's step. Price: the process stays as large as its largest step made it. Only glibc's
allocator takes this; with others nothing happens.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 1 << 30
"""Larger pieces than this still come from the system and go back to it."""


def keep_freed_memory() -> bool:
    """Whether the allocator takes the setting. Call it before the model is built."""
    try:
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(_MMAP_THRESHOLD, _LARGEST) and libc.mallopt(_TRIM_THRESHOLD, -1))
    except (AttributeError, OSError):
        return False
