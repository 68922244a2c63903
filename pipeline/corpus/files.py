"""Input files: paths, folders, globs and URLs to a list in a fixed order, and errors for what cannot be read.

The order is that of corpus.paths; inside a folder or glob it is sorted by path. A file named twice is read once. Price:
of a folder in a store each file's right to be read is seen only when it is read.
"""

import glob
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.base.storage import Location, facts_of, is_remote, is_url, place_of
from pipeline.base.stores.faults import StoreAway
from pipeline.corpus.urls import Found, find_urls, is_passed_over, same_place

SHOWN = 3
KINDS = (".txt", ".jsonl", ".parquet", ".arrow", ".warc", ".wet", ".xml")
PACKINGS = (".gz", ".zst", ".bz2")
_PART = re.compile(r"\.xml-p\d+p\d+(?=\.|$)")
"""As the parts of Wikipedia's dumps are named, by their pages: pages-articles1.xml-p1p41242.bz2."""
_UNREAD = (".xz", ".lz4", ".lzma", ".br", ".7z", ".zip", ".z", ".sz", ".snappy", ".lzo", ".rar")
"""Other ways to compress: such a file of ours is not passed over, which would lose it without a word."""
WANTED = ".txt, .jsonl, .parquet, .arrow, .warc, .wet or .xml, each also .gz, .zst or .bz2"


@dataclass(frozen=True)
class InputFile:
    """A file to read."""

    path: str
    """As found, so relative where corpus.paths is; or a URL."""
    name: str
    """Relative to the entry of corpus.paths that it came from: the same wherever the corpus lies."""
    kind: str
    packing: str
    """Empty, or one of PACKINGS."""
    size: int
    changed: str
    """What differs when the content does: times of the last change in nanoseconds; the entity tag in a store."""
    base: str
    """The driver's working folder."""

    @property
    def place(self) -> str:
        """Absolute path, for workers in other folders; or the URL."""
        return self.path if is_url(self.path) else os.path.join(self.base, self.path)


def kind_of(path: str) -> tuple[str, str] | None:
    """(kind, packing) by the file's name, None where it is none of ours: "a.jsonl.gz" -> (".jsonl", ".gz")."""
    stem, suffix = os.path.splitext(_PART.sub(".xml", path.lower()))
    packing = suffix if suffix in PACKINGS else ""
    kind = os.path.splitext(stem)[1] if packing else suffix
    return (kind, packing) if kind in KINDS else None


_MEANT = re.compile(
    r"\.(txt|jsonl?|ndjson|parquet|arrow|warc|wet|xml|zip|tar|tgz|tbz2?|txz|tzst|7z|rar)(\.[^./]+)*~?$", re.IGNORECASE
)
"""Names of files that seem to hold a corpus, whatever else their names end in."""


class _Kinds:
    """kind_of, that notes which files it has passed over although they seem to be meant: a.jsonl.xz, a.json, a.tgz."""

    def __init__(self) -> None:
        self.unread: list[str] = []
        self.others: list[str] = []

    def __call__(self, path: str) -> tuple[str, str] | None:
        kind = kind_of(path)
        stem, suffix = os.path.splitext(path.lower())
        if kind is None and kind_of(stem) is not None and suffix in _UNREAD:
            self.unread.append(path)
        elif kind is None and _MEANT.search(_PART.sub(".xml", os.path.basename(path))):
            self.others.append(path)
        return kind


def find_files(paths: Sequence[str], *own: Location) -> list[InputFile]:
    """All input files in reading order. UserError for what is missing, empty or unreadable.

    own: run_dir and the store of the run. An entry that leads through one of them (such as ".") does not take up what
    the run itself writes there; one that names something below it is taken at its word.
    """
    found: dict[str, InputFile] = {}
    problems: list[str] = []
    unread: list[str] = []
    others: list[str] = []
    for entry in paths:
        kinds = _Kinds()
        try:
            files, root = _entry_files(entry, kinds)
        except StoreAway:  # the next entry would be waited for as long
            raise
        except UserError as error:
            problems.append(str(error))
            files, root = [], ""
        passed_over = [str(place) for place in own if not _is_below(root, str(place))]
        for file in files:
            place = same_place(file.path) if is_url(file.path) else os.path.realpath(file.path)
            if not _is_in(place, passed_over):
                found.setdefault(place, file)
        unread += [path for path in kinds.unread if not _is_in(_full(path, root), passed_over)]
        others += [path for path in kinds.others if not _is_in(_full(path, root), passed_over)]
    if unread:
        problems.append(
            f"{_some(unread)}: compressed in a way that is not read; {', '.join(PACKINGS)} are. Convert what is "
            "meant, and move away what is not."
        )
    if others:
        get_logger().warning(f"passed over, by the ends of their names: {_some(others)}")
    if problems:
        raise UserError("corpus.paths:\n  " + "\n  ".join(problems))
    if not found:
        raise UserError(f"corpus.paths names no file outside run_dir: give files, folders or globs of {WANTED}.")
    return list(found.values())


def _some(names: list[str]) -> str:
    names = sorted(set(names))
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _full(path: str, root: str) -> str:
    """A path as listed, which in a store is without the scheme, as `_is_in` compares it."""
    return f"{root.partition('://')[0]}://{path}" if is_url(root) and not is_url(path) else os.path.realpath(path)


def _is_in(place: str, folders: Sequence[str]) -> bool:
    return any(place == folder or _is_below(place, folder) for folder in folders)


def _is_below(place: str, folder: str) -> bool:
    return place.startswith(folder.rstrip("/") + "/")


def _entry_files(entry: str, kinds: _Kinds) -> tuple[list[InputFile], str]:
    """The files of one entry, and the path or URL that all of it lies in."""
    place = place_of(entry)
    if is_remote(place):
        files = [_found_file(found) for found in find_urls(place, kinds, WANTED)]
        parts = str(place).split("/")
        first = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        return files, "/".join(parts[:first])
    path = str(place) if is_url(entry) else os.path.expanduser(entry)
    return _local_files(entry, path, kinds), os.path.realpath(_fixed_part(path))


def _local_files(entry: str, path: str, kinds: _Kinds) -> list[InputFile]:
    if os.path.isdir(path):
        files = _folder_files(path, path, kinds)
        if not files:
            raise UserError(f"the folder {entry} holds no file that is {WANTED}. Mend the path or fill the folder.")
        return files
    if os.path.lexists(path):
        if kind_of(path) is None:
            raise UserError(f"{entry} is not {WANTED}. Rename or convert it.")
        return [_input_file(path, os.path.basename(path))]
    if not glob.has_magic(path):
        raise UserError(f"{entry} does not exist (looked in {Path.cwd()}). Mend the path.")
    return _glob_files(entry, path, kinds)


def _glob_files(entry: str, pattern: str, kinds: _Kinds) -> list[InputFile]:
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise UserError(f"the glob {entry} matches nothing (looked in {Path.cwd()}). Mend the pattern.")
    base = _fixed_part(pattern)
    files = []
    for match in matches:
        if os.path.isdir(match):
            files += _folder_files(match, base, kinds) if "**" not in pattern else []
        elif kinds(match) is not None:
            files.append(_input_file(match, os.path.relpath(match, base)))
    if not files:
        raise UserError(f"the glob {entry} matches {len(matches)} paths, but no file that is {WANTED}.")
    return files


def _folder_files(folder: str, base: str, kinds: _Kinds) -> list[InputFile]:
    """Links to folders are followed, each folder once, so that a link to one above does not lead in a circle."""
    paths = []
    seen = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        wanted = sorted(name for name in folders if not name.startswith("."))
        folders.clear()
        for name in wanted:
            place = os.path.realpath(os.path.join(parent, name))
            if place not in seen:
                seen.add(place)
                folders.append(name)
        paths += [path for name in names if not is_passed_over(name) and kinds(path := os.path.join(parent, name))]
    return [_input_file(path, os.path.relpath(path, base)) for path in sorted(paths)]


def _refuse(error: OSError) -> None:
    raise UserError(f"cannot list {error.filename}: {error.strerror}. Mend its permissions.")


def _fixed_part(pattern: str) -> str:
    """What stands before the first part of a path that holds a wildcard."""
    parts = Path(pattern).parts
    first = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(Path(*parts[:first])) if first else "."


def _input_file(path: str, name: str) -> InputFile:
    kind, packing = kind_of(path) or ("", "")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path} is not a regular file. Write its content to one.")
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Mend the path or its permissions.") from None
    facts = facts_of(Path(path))
    return InputFile(path, name, kind, packing, facts.size, facts.stamp, os.getcwd())


def _found_file(found: Found) -> InputFile:
    kind, packing = kind_of(urlsplit(found.url).path if found.url.startswith("http") else found.url) or ("", "")
    return InputFile(found.url, found.name, kind, packing, found.facts.size, found.facts.stamp, "")
