"""Files behind a URL of a store: one file, a folder with all below it, or a glob, by the rules of local ones.

Hidden names (a dot first) and by-products are passed over, the order is that of the names; a web server lists nothing.
Price: a folder, and a glob from its ** on, lists all keys below, 1000 a request; any other glob lists each folder that
it goes through.
"""

import fnmatch
import glob
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pipeline.base.errors import UserError
from pipeline.base.storage import Facts, facts_in, facts_of, is_remote, place_of, reading, system_of
from pipeline.base.stores.faults import shown, status_of

if TYPE_CHECKING:
    from upath import UPath

Wanted = Callable[[str], object]
"""Whether a name is that of a file to read."""


_BYPRODUCT = re.compile(
    r"cache-[0-9a-f]+.*\.arrow|(dataset_info|dataset_dict|state)\.json|.*-multistream-index\d*\.txt.*", re.IGNORECASE
)
"""What Hugging Face's save_to_disk(), map() and filter() leave beside a data set, and the index of a Wikipedia dump."""


def is_passed_over(name: str) -> bool:
    """Whether a folder's file or folder of this name is not looked at: a hidden one, and what holds no corpus."""
    return name.startswith(".") or _BYPRODUCT.fullmatch(name) is not None


class Found(NamedTuple):
    """A file: its URL, its name relative to what was listed, and what tells whether it changed."""

    url: str
    name: str
    facts: Facts


def find_urls(place: "UPath", wanted: Wanted, kinds: str) -> list[Found]:
    """The files that a URL names, in reading order. UserError where there are none, or they cannot be listed."""
    if place.protocol in ("http", "https"):
        return [_web_file(place, wanted, kinds)]
    with reading(place):
        system = system_of(place)
        about = _info(system, place.path)
        if about is not None and about["type"] == "file":
            if not wanted(about["name"]):
                raise UserError(f"{shown(place)} is not {kinds}. Rename or convert it.")
            return [Found(str(place), posixpath.basename(about["name"]), facts_in(about, place))]
        if about is not None:
            files = _below(system, place, about["name"].rstrip("/"), wanted)
            if not files:
                raise UserError(f"the folder {place} holds no file that is {kinds}. Mend the URL or fill the folder.")
            return files
        if not glob.has_magic(place.path):
            raise UserError(f"{shown(place)} does not exist. Mend the URL.")
        return _glob(system, place, wanted, kinds)


def same_place(url: str) -> str:
    """What two URLs of one file share: http(s) as it is sent, in which "a b" and "a%20b" are one name."""
    place = place_of(url) if url.startswith(("http://", "https://")) else None
    return str(system_of(place).encode_url(url)) if place is not None and is_remote(place) else url


def _web_file(place: "UPath", wanted: Wanted, kinds: str) -> Found:
    path = unquote(urlsplit(place.path).path)
    if glob.has_magic(path) or not wanted(path):
        raise UserError(
            f"{shown(place)} does not end in the name of a file that is {kinds}. A web server lists nothing: name each "
            "file of a folder or glob."
        )
    return Found(str(place), posixpath.basename(path), facts_of(place))


def _info(system: Any, path: str) -> dict[str, Any] | None:
    try:
        return dict(system.info(path))
    except FileNotFoundError as error:
        if status_of(error) in (None, 404):
            return None
        raise


def _below(system: Any, place: "UPath", folder: str, wanted: Wanted, base: str | None = None) -> list[Found]:
    """All files below a folder; their names are relative to `base`, by default the folder."""
    found = []
    for name, about in sorted(system.find(folder, detail=True).items()):
        inside = name.removeprefix(folder).strip("/").split("/")
        if about["type"] == "file" and not any(map(is_passed_over, inside)) and wanted(name):
            found.append(_found(place, about, folder if base is None else base))
    return found


def _found(place: "UPath", about: dict[str, Any], base: str) -> Found:
    url = f"{place.protocol}://{about['name']}"
    return Found(url, about["name"].removeprefix(base).lstrip("/"), facts_in(about, url))


def _glob(system: Any, place: "UPath", wanted: Wanted, kinds: str) -> list[Found]:
    parts = place.path.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    base = "/".join(parts[:first])
    matches = sorted(_matches(system, base, parts[first:]), key=lambda about: str(about["name"])) if base else []
    if not matches:
        raise UserError(f"the glob {place} matches nothing. Mend the pattern.")
    files = []
    for about in matches:
        if about["type"] == "directory":
            files += _below(system, place, about["name"].rstrip("/"), wanted, base)
        elif wanted(about["name"]):
            files.append(_found(place, about, base))
    if not files:
        raise UserError(f"the glob {place} matches {len(matches)} names, but no file that is {kinds}.")
    return files


def _matches(system: Any, folder: str, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What a pattern below a folder matches, files and folders; files alone where it holds **."""
    if parts[0] == "**":
        for name, about in system.find(folder, detail=True).items():
            inside = name.removeprefix(folder).lstrip("/")
            if about["type"] == "file" and _fits(inside.split("/"), parts):
                yield about
        return
    for about in _listed(system, folder):
        name = posixpath.basename(about["name"].rstrip("/"))
        if not _fits([name], parts[:1]):
            continue
        if len(parts) == 1:
            yield about
        elif about["type"] == "directory":
            yield from _matches(system, about["name"].rstrip("/"), parts[1:])


def _listed(system: Any, folder: str) -> list[dict[str, Any]]:
    """What lies in a folder, without the empty object that some tools leave to mark it; nothing where there is none."""
    try:
        return [about for about in system.ls(folder, detail=True) if about["name"].strip("/") != folder.strip("/")]
    except FileNotFoundError as error:
        if status_of(error) in (None, 404):
            return []
        raise


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the parts of a path fit a pattern's, as in glob of Python: * and ** take no name with a dot first."""
    if not parts:
        return not names
    if parts[0] == "**":
        if len(parts) == 1:
            return not any(name.startswith(".") for name in names)
        return _fits(names, parts[1:]) or (bool(names) and not names[0].startswith(".") and _fits(names[1:], parts))
    if not names or not fnmatch.fnmatchcase(names[0], parts[0]):
        return False
    return (parts[0].startswith(".") or not names[0].startswith(".")) and _fits(names[1:], parts[1:])
