"""How an input is opened: a binary stream that can seek, of a local file or of a URL.

Of a store, blocks are read that grow to BLOCK while reading goes straight on, the next one already under way in a
thread; a block that breaks off is asked for again at its own offset (base/stores/). Price: two blocks of memory, and
small blocks behind `stop` and after a jump.
"""

import io
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

from pipeline.base.errors import UserError
from pipeline.base.storage import Location, changed_while_read, facts_of, is_url, read_range

BUFFER, FIRST_BLOCK, BLOCK = 1 << 17, 1 << 20, 8 << 20


def open_input(path: str, start: int = 0, stop: int | None = None) -> IO[bytes]:
    """The bytes of a file from byte `start` on. It, and reading it, raise UserError for what cannot be read.

    path: a local path or a URL. stop: about where reading will end, so that no more is fetched; reading on is allowed.
    """
    try:
        raw: io.RawIOBase = _Stream(_found_place(path), stop) if is_url(path) else _LocalFile(path)
    except OSError as error:
        raise _cannot_read(path, error) from error
    file = io.BufferedReader(raw, BUFFER)
    file.seek(start)
    return file


def _found_place(url: str) -> Location:
    """The place of a URL that a store listed: of a key such as a?token=1.txt nobody can say that it is a secret."""
    from upath import UPath  # only where there is a URL

    return UPath(url, use_listings_cache=False)


def _cannot_read(path: str, error: OSError) -> UserError:
    return UserError(f"cannot read {path}: {error.strerror or error}. Mend it and start the same command again.")


class _LocalFile(io.FileIO):
    """A file whose errors in the middle, of a lost mount or a broken disk, are told as a UserError."""

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer) or 0
        except OSError as error:
            raise _cannot_read(str(self.name), error) from error


class _Stream(io.RawIOBase):
    """A file of a store, read in blocks. size: in bytes, asked for once."""

    def __init__(self, place: Location, stop: int | None) -> None:
        super().__init__()
        self.place = place
        self.size = facts_of(place).size
        self._stop = self.size if stop is None else min(stop, self.size)
        self._position = self._block_start = 0
        self._block = b""
        self._wanted = FIRST_BLOCK
        self._next: tuple[int, Future[bytes]] | None = None
        self._pool = ThreadPoolExecutor(1, "read-ahead")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._position >= self.size or not len(view):
            return 0
        if not self._block_start <= self._position < self._block_start + len(self._block):
            self._load()
        first = self._position - self._block_start
        found = memoryview(self._block)[first : first + len(view)]
        view[: len(found)] = found
        self._position += len(found)
        return len(found)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _load(self) -> None:
        """Makes the block that begins at the position the one in memory, and asks for the next."""
        start = self._position
        straight = start == self._block_start + len(self._block)
        if not straight:
            self._wanted = FIRST_BLOCK
        if self._next is not None and self._next[0] == start:
            block = self._next[1].result()
        else:
            block = read_range(self.place, start, start + self._size_at(start))
        if not block:
            raise changed_while_read(self.place)
        self._block_start, self._block, self._next = start, block, None
        self._wanted = min(BLOCK, self._wanted * 2)
        after = start + len(block)
        if straight and after < self._stop:
            self._next = (after, self._pool.submit(read_range, self.place, after, after + self._size_at(after)))

    def _size_at(self, start: int) -> int:
        if start < self._stop:
            return min(self._wanted, self._stop - start)
        return min(FIRST_BLOCK, self.size - start)
