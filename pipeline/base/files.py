"""Files that are whole or absent: write aside, fsync, rename. A full disk is the user's message, not a traceback."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError

CHUNK = 1 << 20

_MESSAGES = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EEXIST: "a file is where a folder should be",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EISDIR: "a folder is where a file should be",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def told_plainly(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write below `path` into a UserError."""
    try:
        yield
    except Exception as error:
        code = _code_of(error)
        if code not in _MESSAGES:
            raise
        raise UserError(
            f"cannot write {path}: {_MESSAGES[code]}. What was complete is kept: make room, or mend the path or "
            "the access to it, then start the same command again."
        ) from error


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


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; on a clean exit it is fsynced and renamed, else removed."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    with told_plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            sync(aside)
            os.replace(aside, path)
            sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replaces the file by `data`, whole or not at all."""
    with complete_file(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`; on a clean exit every file is fsynced and it takes the place of `path`."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    with told_plainly(path):
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            yield aside
            for entry in (*aside.rglob("*"), aside):
                sync(entry)
            if path.exists():
                os.rename(path, old)
            os.rename(aside, path)
            sync(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def sha256_file(path: Path) -> str:
    """Hexadecimal digest of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Parsed JSON file; UserError when it is missing, unreadable or broken."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Mend the path or the access to it.") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}). Delete it and run its stage again.") from None


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, whole or not at all."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Holds the folder for this process; UserError when another one has it. Freed by the kernel at any death."""
    path = Path(path)
    with told_plainly(path):
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise UserError(
                f"the run folder {path} is in use by {owner}. Wait for it, stop it, or set another run_dir."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
