"""Memory of a rank on a CPU: what is freed stays with the process, and comes in large pages.

glibc gives freed memory back to the system at the end of every step, and the next one touches it anew, 4 KiB at a
time: an eighth of a small model's step. Price: the process stays as large as its largest step made it. Only glibc's
allocator takes this; with others nothing happens.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_HUGE_PAGES = 14  # sys/mman.h
_PAGE = 4096
_LARGEST = 1 << 30
"""Larger pieces than this still come from the system and go back to it."""
_BLOCKS = 4
"""So many times _LARGEST of address space gets large pages; it becomes memory when it is used."""


def keep_freed_memory() -> bool:
    """Whether the allocator takes the setting. Call it before the model is built."""
    try:
        libc = ctypes.CDLL(None)
        took = libc.mallopt(_MMAP_THRESHOLD, _LARGEST) and libc.mallopt(_TRIM_THRESHOLD, -1)
    except (AttributeError, OSError):
        return False
    if took:
        _large_pages(libc)
    return bool(took)


def _large_pages(libc: ctypes.CDLL) -> None:
    """Grows the heap by blocks that are freed unused, and asks for large pages there."""
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    libc.sbrk.argtypes, libc.madvise.argtypes = [ctypes.c_ssize_t], [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    blocks = [block for _ in range(_BLOCKS) if (block := libc.malloc(_LARGEST - 16 * _PAGE))]
    end = libc.sbrk(0)
    for block in blocks:
        libc.free(block)
    if blocks and max(blocks) < end:  # on the heap, where memory stays
        start = (min(blocks) + _PAGE) // _PAGE * _PAGE
        libc.madvise(start, (end - start) // _PAGE * _PAGE, _HUGE_PAGES)
