"""Local copies of what lies in a store: fetched once a host, checked by digest, at most `limit` bytes of them.

    KEY/            a copy: files as they are called in the store, and .held, which whoever uses the copy has locked
    KEY.part/       one being fetched; KEY.lock is held by who fetches it, and says how many bytes it will take
    KEY.*.gone/     one being removed

KEY is made of names, sizes and digests, so nothing stale is ever read and runs may share the folder. All locks are
flock's: any death frees them, and what the dead left half-done is removed by whoever makes room next. The copies used
longest ago go first; none that is held, so what is in use may pass the limit (with a warning).

Price: a shard is fetched whole for its first block; a process reads a copy once more, for its digest, before it uses it
(about 1 GB/s a core); a folder on a network file system must support flock.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import BinaryIO

from pipeline.base.errors import Damaged, UserError
from pipeline.base.files import sha256_file, sync
from pipeline.base.log import get_logger
from pipeline.base.names import inside
from pipeline.base.sections import DataConfig
from pipeline.base.storage import Location, download

ATTEMPTS = 3
"""Downloads of a file whose digest is wrong before that is an error."""
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up"}


class NoRoom(UserError):
    """The copies cannot be written: nothing is wrong with what is copied."""


@dataclass(frozen=True)
class RemoteFile:
    """name: relative to the place of its `Remote`, with slashes; bytes and sha256 as they must be.

    ValueError for a name that leads out of that place.
    """

    name: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        inside(self.name)  # the copy is written there, whatever a store's manifest says


@dataclass(frozen=True)
class Remote:
    """Files below one place of a store that are copied together: a shard, or what is needed of a checkpoint."""

    place: Location
    files: tuple[RemoteFile, ...]

    @cached_property
    def key(self) -> str:
        """Name of the copy."""
        told = "".join(f"{file.sha256} {file.bytes} {file.name}\n" for file in self.files)
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)


class Cache:
    """A folder of copies, at most `limit` bytes. Safe to use from several threads and processes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder.absolute(), limit
        self._held: dict[str, int] = {}
        self._sound: set[str] = set()  # whose digests this process has seen to be right
        self._threads = threading.Lock()
        self._warned = False

    def hold(self, remote: Remote, wait: bool = True) -> Path | None:
        """The folder of a whole copy, fetched where there is none, kept until `release` or the end of this process.

        Without `wait`: None where another process or thread fetches it, or where there is no room for it.
        Damaged when the store gives other bytes; UserError when it gives none, or the disk is full.
        """
        with self._threads:
            held = self._held.get(remote.key)
        if held is not None:
            if _is_at(held, self._mark(remote)):
                return self.folder / remote.key
            self.release(remote)  # the folder was removed by hand
        descriptor = self._copy(remote, wait)
        if descriptor is None:
            return None
        with self._threads:
            other = self._held.setdefault(remote.key, descriptor)
        if other != descriptor:
            os.close(descriptor)
        return self.folder / remote.key

    def open(self, remote: Remote, name: str) -> BinaryIO:
        """A file of a copy, unbuffered, held or not: it stays readable when the copy is removed."""
        path = self.folder / remote.key / name
        while True:
            with self._threads:
                held = remote.key in self._held
            descriptor = None if held else self._copy(remote, wait=True)
            try:
                return open(path, "rb", buffering=0)
            except FileNotFoundError:  # removed by hand
                self.release(remote)
            finally:
                if descriptor is not None:
                    os.close(descriptor)

    def release(self, remote: Remote) -> None:
        """The copy is of no more use to this process; it stays until room is needed."""
        self._let_go(remote.key)

    def release_at(self, path: Path) -> None:
        """The same of the copy that a path lies in, if it lies in one."""
        if path.is_relative_to(self.folder):
            self._let_go(path.relative_to(self.folder).parts[0])

    def _let_go(self, key: str) -> None:
        with self._threads:
            descriptor = self._held.pop(key, None)
        if descriptor is not None:
            os.utime(descriptor)  # used last
            os.close(descriptor)

    def _mark(self, remote: Remote) -> Path:
        return self.folder / remote.key / ".held"

    def _copy(self, remote: Remote, wait: bool) -> int | None:
        """A descriptor whose shared lock keeps the copy; None as `hold` says."""
        with self._told():
            while True:
                descriptor = self._lock_copy(remote)
                if descriptor is not None:
                    return descriptor
                self.folder.mkdir(_PRIVATE_FOLDER, parents=True, exist_ok=True)
                with self._claimed(remote, wait) as claimed:
                    if not claimed:
                        return None
                    if self._mark(remote).exists():
                        continue  # another process was first
                    if not self._make_room(remote, wait):
                        return None
                    return self._fetch(remote)

    def _lock_copy(self, remote: Remote) -> int | None:
        """The same of a copy that is there and whole; one that is damaged is removed."""
        try:
            descriptor = os.open(self._mark(remote), os.O_RDWR)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not _is_at(descriptor, self._mark(remote)):
            os.close(descriptor)
            return None
        if remote.key not in self._sound:
            broken = [file for file in remote.files if not _is_whole(self.folder / remote.key / file.name, file)]
            if broken:
                get_logger().warning(f"the copy {self.folder / remote.key / broken[0].name} is damaged: fetched again")
                os.close(descriptor)
                with self._alone():
                    self._remove(self.folder / remote.key)
                return None
            self._sound.add(remote.key)
        os.utime(descriptor)
        return descriptor

    @contextmanager
    def _claimed(self, remote: Remote, wait: bool) -> Iterator[bool]:
        """Holds the right to fetch this copy; yields False where another has it and `wait` is not set."""
        path = self.folder / f"{remote.key}.lock"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
            if not _locked(descriptor, wait):
                os.close(descriptor)
                yield False
                return
            if _is_at(descriptor, path):
                break
            os.close(descriptor)  # it was another's, and is removed
        try:
            os.pwrite(descriptor, str(remote.bytes).encode(), 0)
            yield True
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _fetch(self, remote: Remote) -> int:
        """Downloads the copy, checks it and puts it into its place, held."""
        part = self.folder / f"{remote.key}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(_PRIVATE_FOLDER)
        try:
            for file in remote.files:
                (part / file.name).parent.mkdir(parents=True, exist_ok=True)
                _download(remote.place / file.name, part / file.name, file)
            descriptor = os.open(part / ".held", os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                for entry in (*part.rglob("*"), part):
                    sync(entry)
                os.rename(part, self.folder / remote.key)
            except BaseException:
                os.close(descriptor)
                raise
            sync(self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._sound.add(remote.key)
        return descriptor

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While it holds, no other process removes copies."""
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _make_room(self, remote: Remote, must: bool) -> bool:
        """Removes copies until this one fits beside the others and those being fetched; whether it does, or must."""
        with self._alone():
            wanted = remote.bytes + self._sweep(remote.key)
            copies = []
            for path in self.folder.iterdir():
                if _is_copy(path.name) and (path / ".held").exists():
                    files = [entry.stat() for entry in path.rglob("*") if entry.is_file()]
                    copies.append(((path / ".held").stat().st_mtime_ns, sum(file.st_size for file in files), path))
            wanted += sum(size for _, size, _ in copies)
            for _, size, path in sorted(copies):
                if wanted <= self.limit:
                    return True
                if self._evict(path):
                    wanted -= size
        if wanted > self.limit and must and not self._warned:
            self._warned = True
            get_logger().warning(
                f"the copies in {self.folder} that are in use take {wanted:,} bytes, more than data.cache_bytes "
                f"{self.limit:,}. Raise it, or lower data.shuffle_window."
            )
        return must or wanted <= self.limit

    def _sweep(self, own: str) -> int:
        """Removes what the dead left; returns the bytes that the living will take, but for the copy `own`."""
        reserved = 0
        for path in list(self.folder.iterdir()):
            if path.name.endswith(".gone"):
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix == ".lock" and _is_copy(path.stem) and path.stem != own:
                try:
                    descriptor = os.open(path, os.O_RDWR)
                except FileNotFoundError:
                    continue
                if not _locked(descriptor, wait=False):
                    reserved += int(os.pread(descriptor, 20, 0) or 0)
                elif _is_at(descriptor, path):
                    shutil.rmtree(path.with_suffix(".part"), ignore_errors=True)
                    path.unlink()
                os.close(descriptor)
        return reserved

    def _evict(self, path: Path) -> bool:
        """Removes a copy, unless somebody holds it."""
        descriptor = os.open(path / ".held", os.O_RDWR)
        try:
            free = _locked(descriptor, wait=False)
            if free:
                self._remove(path)
            return free
        finally:
            os.close(descriptor)

    def _remove(self, path: Path) -> None:
        gone = path.with_name(f"{path.name}.{secrets.token_hex(4)}.gone")
        try:
            os.rename(path, gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The system's refusals as one message that names the folder."""
        try:
            yield
        except OSError as error:
            raise NoRoom(_refusal(self.folder, _FULL.get(error.errno or 0) or str(error.strerror))) from error
        except UserError as error:
            code = getattr(error.__cause__, "errno", None)
            if code not in _FULL:
                raise
            raise NoRoom(_refusal(self.folder, _FULL[code])) from error


@cache
def _cache(folder: str, limit: int) -> Cache:
    return Cache(Path(folder), limit)


def open_cache(settings: DataConfig) -> Cache:
    """This process's cache in data.cache, by default electra in $XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = given if os.path.isabs(given) else os.path.expanduser("~/.cache")
    return _cache(settings.cache or os.path.join(home, "electra"), settings.cache_bytes)


def _download(place: Location, local: Path, file: RemoteFile) -> None:
    """Downloads until the digest is right, ATTEMPTS times at most."""
    for _ in range(ATTEMPTS):
        download(place, local)
        if _is_whole(local, file):
            return local.chmod(_PRIVATE_FILE)
    raise Damaged(
        f"{place} is broken: {ATTEMPTS} downloads of it were not the bytes that were written.\n"
        f"  expected: {file.bytes:,} bytes, sha256 {file.sha256}\n"
        f"  found:    {local.stat().st_size:,} bytes, sha256 {sha256_file(local)}\n"
        "Copy it again from where it was made, or make it anew."
    )


def _is_whole(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes and sha256_file(path) == file.sha256


def _is_copy(name: str) -> bool:
    """Whether it is named as a copy: all else in the folder is left alone."""
    return len(name) == 64 and not name.strip("0123456789abcdef")


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        there, here = os.stat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _locked(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _refusal(folder: Path, reason: str) -> str:
    return (
        f"cannot write the local copies in {folder}: {reason}. Make room, lower data.cache_bytes, or set data.cache to "
        "a folder that can be written, then start the same command again."
    )
