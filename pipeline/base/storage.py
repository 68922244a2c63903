"""Where data lives: a local path, or a URL of S3, Google Cloud Storage, the Hugging Face Hub or a web server.

A place is a pathlib.Path or a upath.UPath, which share their methods. Credentials are never in a URL: the stores'
libraries take them from the environment (docs/storage.md). A store that is away is waited for, then told in one line.
Price: a download checks with a second request that the file did not change meanwhile.
"""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union
from urllib.parse import unquote, urlsplit

import fsspec

from pipeline.base.errors import UserError
from pipeline.base.files import is_remote as is_remote
from pipeline.base.files import told_plainly
from pipeline.base.stores.faults import is_fault, refuse_secrets, shown, status_of, told

if TYPE_CHECKING:
    from upath import UPath

Location = Union[Path, "UPath"]
"""A local path, or a place in a store."""

PART = 16 << 20
"""Bytes of a part of an upload, and of a download."""
MOST_PARTS = 9_000
"""S3 takes 10,000 parts of an object at most: a larger file gets larger parts."""
WHOLE = 64 << 20
"""Bytes of the largest file that is read from a web server without ranges, which sends it from its start each time."""
CONNECTIONS = 4
"""Parts of one file on their way at a time."""

_CLASSES = {
    "s3": "pipeline.base.stores.s3.S3Store",
    "gs": "pipeline.base.stores.gs.GoogleStore",
    "hf": "pipeline.base.stores.hub.HubStore",
    "http": "pipeline.base.stores.web.WebFiles",
    "https": "pipeline.base.stores.web.WebFiles",
}
_READ_ONLY = {"http", "https", "hf"}
_KNOWN = "a path, or a URL with file://, s3://, gs://, hf://, http:// or https://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_STAMPS = ("ETag", "generation", "etag", "blob_id", "md5Hash", "LastModified", "Last-Modified", "updated", "mtime")

for _scheme, _name in _CLASSES.items():
    fsspec.register_implementation(_scheme, _name, clobber=True)


class Facts(NamedTuple):
    """Size in bytes of a file, and what differs when its content does: its entity tag, version or times."""

    size: int
    stamp: str


def is_url(text: str) -> bool:
    """Whether the text begins as a URL does, "s3://"."""
    return _SCHEME.match(text) is not None


def place_of(text: str) -> Location:
    """The place that a config names; ~ is the home folder. UserError for a scheme that is not known, or a secret."""
    found = _SCHEME.match(text)
    if found is None:
        slip = re.match(r"(file|s3|gs|hf|https?):/", text)
        if slip:
            raise UserError(f"{shown(text)} has one slash after {slip[1]}: where two belong. Write {slip[1]}://.")
        return Path(os.path.expanduser(text))
    refuse_secrets(text)
    scheme = found[1].lower()
    if scheme == "file":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise UserError(f"{text} names the host {parts.netloc}. Write file:///PATH for a file of this host.")
        return Path(unquote(parts.path))
    if scheme not in _CLASSES:
        raise UserError(f"{shown(text)}: the scheme {scheme}:// is not known. Give {_KNOWN}.")
    rest = text[found.end() :]
    if not rest.partition("/")[0]:
        raise UserError(
            f"{text} names no {'host' if scheme.startswith('http') else 'bucket'}. Write {scheme}://NAME/..."
        )
    from upath import UPath  # only where a URL is named

    return UPath(f"{scheme}://{rest if scheme.startswith('http') else rest.rstrip('/')}", use_listings_cache=False)


@contextmanager
def _told(verb: str, place: Location) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not is_fault(error):
            raise
        raise told(error, verb, place) from error


@contextmanager
def reading(place: Location) -> Iterator[None]:
    """Turns what a store or the system answers to reading below `place` into a UserError."""
    with _told("read", place):
        yield


@contextmanager
def writing(place: Location) -> Iterator[None]:
    """Turns what a store or the system answers to writing below `place` into a UserError; http(s), hf are only read."""
    if isinstance(place, Path):
        with told_plainly(place):
            yield
        return
    if place.protocol in _READ_ONLY:
        raise UserError(f"cannot write {shown(place)}: {place.protocol}:// is only read. Name a path, s3:// or gs://.")
    with _told("write", place):
        yield


def facts_of(place: Location) -> Facts:
    """Size and stamp of a file, from one request. UserError where it cannot be read or is none."""
    with reading(place):
        if isinstance(place, Path):
            status = place.stat()
            return Facts(status.st_size, f"{status.st_mtime_ns}-{status.st_ctime_ns}")
        found = system_of(place).info(place.path)
        if found["type"] != "file":
            raise UserError(f"cannot read {shown(place)}: it is a folder. Name a file.")
        return facts_in(found, place)


def facts_in(found: dict[str, Any], place: object) -> Facts:
    """Facts of a file from what fsspec tells about it."""
    size = found.get("size")
    if size is None:
        raise UserError(f"cannot read {shown(place)}: its server tells no size. Download it and name the copy.")
    if size > WHOLE and not found.get("partial", True):
        raise UserError(
            f"cannot read {shown(place)}: its server sends whole files only (no ranges), and this one has "
            f"{size >> 20} MiB, more than {WHOLE >> 20}. Download it and name the copy."
        )
    stamp = next((str(found[name]) for name in _STAMPS if found.get(name)), "")
    return Facts(int(size), stamp.strip('"'))


def system_of(place: "UPath") -> Any:
    """The store's fsspec file system in this process and thread."""
    return fsspec.filesystem(place.protocol, **place.storage_options)


def read_range(place: Location, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of a file, fewer where it ends before."""
    if stop <= start:
        return b""
    with reading(place):
        if isinstance(place, Path):
            with open(place, "rb") as file:
                file.seek(start)
                return file.read(stop - start)
        try:
            return bytes(system_of(place).cat_file(place.path, start=start, end=stop))
        except OSError as error:
            if status_of(error) == 416:  # begins at or behind the end
                return b""
            raise


def upload(local: Path, place: Location) -> None:
    """Puts a local file's bytes at `place`, whole or not at all; what was there is replaced."""
    if isinstance(place, Path):
        return download(local, place)
    part = max(PART, -(-local.stat().st_size // MOST_PARTS))
    system = system_of(place)
    with writing(place):
        for last in (False, True):
            try:
                return system.put_file(str(local), place.path, chunksize=part)
            except FileNotFoundError as error:  # an upload that the store forgot when it was started anew
                if last or "NoSuchUpload" not in repr(error.__cause__):
                    raise


def download(place: Location, local: Path) -> None:
    """Puts the bytes at `place` into a local file, whole or not at all."""
    from pipeline.base.files import complete_file  # which builds on this module

    before = facts_of(place)
    with complete_file(local) as aside, open(aside, "wb") as file, ThreadPoolExecutor(CONNECTIONS) as pool:
        file.truncate(before.size)

        def fetch(start: int) -> None:
            wanted = min(PART, before.size - start)
            data = read_range(place, start, start + wanted)
            if len(data) != wanted:
                raise changed_while_read(place)
            os.pwrite(file.fileno(), data, start)

        for _ in pool.map(fetch, range(0, before.size, PART)):
            pass
        if facts_of(place) != before:
            raise changed_while_read(place)


def changed_while_read(place: Location) -> UserError:
    """The message for a file that got shorter, or another one, in the middle."""
    return UserError(f"{shown(place)} changed while it was read. Wait until nothing writes to it, start again.")
