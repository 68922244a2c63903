"""Files that are whole or absent: write aside, fsync, rename. A full disk is the user's message, not a traceback."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import UserError
from pipeline.base.processes import birth_of, machine

if TYPE_CHECKING:
    from typing_extensions import TypeIs
    from upath import UPath

    from pipeline.base.storage import Location

CHUNK = 1 << 20

_MESSAGES = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than the file system or this process's limit allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EEXIST: "a file is where a folder should be",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EISDIR: "a folder is where a file should be",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOENT: "the folder is gone, as after a lost mount",
    errno.EIO: "input/output error of the device",
    errno.ESTALE: "the network file system has lost it (stale handle)",
    errno.ENOTCONN: "the network file system is not connected",
    errno.ENODEV: "the device is gone",
    errno.ENXIO: "the device is gone",
    errno.ETIMEDOUT: "the network file system does not answer",
    errno.EHOSTDOWN: "the network file system does not answer",
    errno.ENOMEM: "the system is out of memory",
}


@contextmanager
def told_plainly(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write below `path` into a UserError."""
    try:
        yield
    except Exception as error:
        code = _code_of(error)
        if code not in _MESSAGES or (code == errno.ENOENT and not _is_near(error, path)):
            raise
        raise UserError(
            f"cannot write {path}: {_MESSAGES[code]}. What was complete is kept: make room, or mend the path or "
            "the access to it, then start the same command again."
        ) from error


def _is_near(error: Exception, path: Path) -> bool:
    """Whether the file that is missing is one beside or below `path`, and not something that was to be read."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return isinstance(name, str | PurePath) and PurePath(name).is_relative_to(PurePath(path).parent)


def _code_of(error: Exception) -> int | None:
    """The system's error number; libraries written in Rust (safetensors, tokenizers) have it in their text alone."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def sync(path: Path) -> None:
    """Makes a file's bytes, or the renames inside a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_remote(path: "Location") -> "TypeIs[UPath]":
    """Whether it is a place in a store (a UPath), not a path of this machine."""
    return not isinstance(path, PurePath | str)


def _beside(path: Path, kind: str) -> Path:
    """A name beside `path` that no other process takes, on this host or another one that shares the folder.

    It says which process of which machine made it, for `sweep_asides`.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{_machine_tag()}-{secrets.token_hex(4)}.{kind}")


@cache
def _machine_tag() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def is_aside(name: str) -> bool:
    """Whether a file or folder of that name is one that a killed process left half-written."""
    return name.startswith(".") and name.endswith((".aside", ".old"))


_ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)-(?:(?P<machine>[0-9a-f]{8})-)?[0-9a-f]{8}\.(?P<kind>aside|old)")
ABANDONED_SECONDS = 86400.0
"""What another machine, or this one before its last start, left half-written and has not touched for so long is
abandoned: that machine's processes cannot be asked for."""


def sweep_asides(folder: Path) -> None:
    """Removes what dead processes left half-written in the folder itself (not below it); a refusal is passed over.

    What a kill moved out of the way before its successor was there is the only whole one, and stays.
    """
    for entry in Path(folder).glob(".*"):
        made = _ASIDE.fullmatch(entry.name)
        if made is None or (made["kind"] == "old" and not entry.with_name(made["name"]).exists()):
            continue
        with contextlib.suppress(OSError):
            here = machine() and made["machine"] == _machine_tag()
            gone = birth_of(int(made["process"])) is None if here else _abandoned(entry)
            if gone:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _abandoned(path: Path) -> bool:
    """Whether nothing in it has been touched for long."""
    touched = max(entry.lstat().st_mtime for entry in (path, *path.rglob("*")))
    return time.time() - touched > ABANDONED_SECONDS


@contextmanager
def complete_file(path: "Location") -> Iterator[Path]:
    """Yields a path to write to; on a clean exit the file is fsynced and takes the place of `path`, else removed.

    path: a Path, or a UPath of a store; then it is written in the temporary folder and uploaded.
    """
    if is_remote(path):
        from pipeline.base.storage import upload

        with told_plainly(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="upload-") as folder:
            yield Path(folder) / path.name
            upload(Path(folder) / path.name, path)
        return
    path = Path(path)
    aside = _beside(path, "aside")
    with told_plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            sync(aside)
            os.replace(aside, path)
            sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def write_atomic(path: "Location", data: bytes | str) -> None:
    """Replaces the file by `data`, whole or not at all."""
    with complete_file(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def complete_folder(path: "Location") -> Iterator[Path]:
    """Yields an empty folder; on a clean exit every file is fsynced and it takes the place of `path`.

    In a store a folder cannot appear at once: its files are uploaded one by one, so a mark of completeness has to be
    written after it.
    """
    if is_remote(path):
        from pipeline.base.storage import upload

        with told_plainly(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="upload-") as folder:
            yield Path(folder)
            for entry in sorted(entry for entry in Path(folder).rglob("*") if entry.is_file()):
                upload(entry, path / entry.relative_to(folder).as_posix())
        return
    path = Path(path)
    aside = _beside(path, "aside")
    with told_plainly(path):
        try:
            aside.mkdir(parents=True)
            yield aside
            put_folder(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def put_folder(aside: Path, path: Path) -> None:
    """A folder that is complete takes the place of `path`, every file fsynced."""
    for entry in (*aside.rglob("*"), aside):
        sync(entry)
    old = _beside(path, "old")
    if path.exists():
        os.rename(path, old)
    os.rename(aside, path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_tree(path: "Location") -> None:
    """Removes a folder and what is in it, where there is one; UserError where that is refused."""
    if is_remote(path):
        from pipeline.base.storage import writing

        with writing(path):
            if path.exists():
                path.rmdir(recursive=True)
        return
    with told_plainly(path):
        if path.is_dir():
            shutil.rmtree(path)


def sha256_file(path: "Location") -> str:
    """Hexadecimal digest of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def read_json(path: "Location") -> Any:
    """Parsed JSON file; UserError when it is missing, unreadable or broken."""
    try:
        if is_remote(path):
            from pipeline.base.storage import reading

            with reading(path):
                return json.loads(path.read_bytes())
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Mend the path or the access to it.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}). Delete it and run its stage again.") from None


def write_json(path: "Location", value: Any, indent: int | None = 2) -> None:
    """Writes JSON, indented unless told otherwise, whole or not at all."""
    write_atomic(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


class FolderLock:
    """A folder that this process holds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._say("")

    def stopping(self) -> None:
        """Tells whoever finds the folder held that it will soon be free. Any thread may call it."""
        self._say(STOPPING)

    def _say(self, more: str) -> None:
        text = f"process {os.getpid()} on {socket.gethostname()}{more}\n".encode()
        with contextlib.suppress(OSError):  # a full disk: it is held all the same
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))


STOPPING = ", which is stopping"
STOPPING_SECONDS = 60.0
"""How long a holder that is stopping is waited for: what a last save may take."""


@contextmanager
def lock_folder(path: Path, patience: float = 0.0) -> Iterator[FolderLock]:
    """Holds the folder for this process; UserError when another one has it. Freed by the kernel at any death.

    What dead processes left half-written in it is removed.
    patience: seconds to wait for the holder; one that says that it is stopping is always waited for.
    """
    path = Path(path)
    with told_plainly(path):
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _wait_for_lock(descriptor, path, patience)
        sweep_asides(path)
        yield FolderLock(descriptor)
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, path: Path, patience: float) -> None:
    began, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        waits = max(patience, STOPPING_SECONDS if owner.endswith(STOPPING) else 0.0)
        if time.monotonic() - began >= waits:
            raise UserError(
                f"the run folder {path} is in use by {owner}. Wait for it, stop it, or set another run_dir."
            ) from None
        if not told:
            told = True
            print(f"{path} is in use by {owner}: waiting up to {waits:.0f} s for it", file=sys.stderr, flush=True)
        time.sleep(0.2)
