"""Whole lines appended to a file. While the disk is full they wait in memory; they are written in their order.

A line that a kill or a full disk cut off is removed before the next one is written, so that no two are joined. Price:
the file is opened for each line; of MOST lines that wait the oldest goes first, and is counted.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from pipeline.base.log import get_logger

MOST = 20_000
"""Lines that wait; of a run's metrics some 10 MB."""
PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.ENOTCONN,
    errno.ENOMEM,
}
"""What a disk, or a network file system, may have for a while."""
_TAIL = 1 << 16


class Lines:
    """A file that lines are added to, from any thread. lost: lines that were given up."""

    def __init__(self, path: Path) -> None:
        self.path, self.lost = path, 0
        self._waiting: deque[bytes] = deque()
        self._lock = threading.RLock()
        self._warned = False

    @property
    def waiting(self) -> int:
        """Lines in memory."""
        return len(self._waiting)

    def add(self, text: str) -> bool:
        """Adds a line, without its end, and writes what waits. Whether nothing waits; OSError as `write`."""
        with self._lock:
            if len(self._waiting) >= MOST:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append(text.encode() + b"\n")
            return self.write()

    def write(self) -> bool:
        """Writes what waits. False, and one warning, while the disk is full; OSError for what will not pass."""
        with self._lock:
            try:
                _append(self.path, self._waiting)
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                if not self._warned:
                    get_logger().warning(
                        f"{self.path} cannot be written ({error.strerror}): its lines wait in memory, up to {MOST:,}"
                    )
                self._warned = True
                return False
            if self._warned:
                lost = f"; {self.lost:,} lines were given up" if self.lost else ""
                get_logger().info(f"{self.path} is written again{lost}")
            self._warned = False
            return True

    def drop(self, unwanted: Callable[[bytes], bool]) -> None:
        """Forgets lines that wait."""
        with self._lock:
            kept = [line for line in self._waiting if not unwanted(line)]
            self._waiting.clear()
            self._waiting.extend(kept)

    def sync(self) -> None:
        """Waits until the file is on the disk itself; what it does not take is told by `write`."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            get_logger().warning(f"{self.path} may not be on the disk: {error.strerror}")
        finally:
            os.close(descriptor)


def _append(path: Path, waiting: deque[bytes]) -> None:
    """Moves lines to the file's end, one after another; what is left of one that does not fit is removed again."""
    if not waiting:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        end = _cut(descriptor)
        while waiting:
            try:
                if os.write(descriptor, waiting[0]) != len(waiting[0]):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(descriptor, end)
                raise
            end += len(waiting.popleft())
    finally:
        os.close(descriptor)


def _cut(descriptor: int) -> int:
    """Removes a half line at the file's end; its size after that."""
    end = size = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _TAIL)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end
